"use strict";
/* All σ, sorted and at their pixels; a tap gives a slider. */

/** The σ of a pixel that never changes but by the noise. */
function floorOf({ model: { noise, noise_kind: kind, convention, output_activation: last }, prior }) {
	if (!noise || kind === "gaussian") return noise ?? 0;
	// m ≥ 0 of a relu: (9) subtracts it and centres positive noise alone, (7) negative
	const centred = last === "linear" || (kind === "positive") === (convention === "article");
	return noise / Math.sqrt(centred ? 12 : 3) * (prior === "logistic" ? Math.sqrt(3) / Math.PI : 1);
}

CARDS.sigma = () => {
	if (!flow) return;
	const { sigma, width, couplings: { length: n } } = flow, floor = floorOf(flow.configuration), rank = Math.min(state.dimension, order.length - 1);
	const [low, high] = [Math.min(0.003, ...sigma) * 0.9, Math.max(1, ...sigma) * 1.1].map(Math.log), chosen = order[rank];
	const heightOf = (v) => (Math.log(v) - low) / (high - low); // of a bar
	const canvas = $("spectrum"), context = canvas.getContext("2d"), { height } = canvas, accent = colourOf("--accent");
	context.clearRect(0, 0, canvas.width, height);
	context.fillStyle = colourOf("--bar");
	order.forEach((i, k) => context.fillRect(k, height, 1, -height * heightOf(sigma[i])));
	context.fillStyle = accent;
	context.fillRect(rank - 1, 0, 3, height);
	if (floor) context.fillRect(0, height * (1 - heightOf(floor)), canvas.width, 1);
	$("floor").innerHTML = floor ? say("floor", { floor: floor.toPrecision(2) }) : "";
	paint($("sigma-map"), flow.upright(sigma.map(heightOf), n));
	const pixel = flow.places[n][chosen], map = $("sigma-map").getContext("2d");
	map.fillStyle = colourOf("--mark");
	map.fillRect(pixel % width, Math.floor(pixel / width), 1, 1);
	$("sigmas").innerHTML = say("sigmas",
		{ dim: flow.dim, wide: sigma.filter((v) => v > 0.1).length, lying: sigma.filter((v) => v < 1.05 * floor).length });
	showSlider($("dimension"), rank);
	const slider = sliderOfZ(chosen, sigma[chosen]), narrow = $("narrow");
	if (narrow.holds === slider) return;
	narrow.innerHTML = narrow.holds = slider;
	showSliders(chosen, currentCode()[chosen]);
};

function choose(event) {
	const { target } = event, [u, v] = placeIn(target, event);
	if (!flow) return;
	const { width, height, places } = flow;
	set({ dimension: target.id === "spectrum" ? Math.floor(u * order.length)
		: order.indexOf(last(places).indexOf(Math.floor(v * height) * width + Math.floor(u * width))) }, "sigma");
}
