"use strict";
/* Random numbers of a seed, the same in every browser. */

/** The Mersenne Twister, 32 bits a call. */
function twister(seed) {
	const mt = Uint32Array.of(seed, ...new Array(623));
	for (let i = 1; i < 624; i++) mt[i] = Math.imul(1812433253, mt[i - 1] ^ (mt[i - 1] >>> 30)) + i;
	let at = 624;
	return () => {
		if (at === 624)
			for (let i = at = 0; i < 624; i++) {
				const y = (mt[i] & 0x80000000) | (mt[(i + 1) % 624] & 0x7fffffff);
				mt[i] = mt[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 && 0x9908b0df);
			}
		let y = mt[at++];
		y ^= y >>> 11;
		y ^= (y << 7) & 0x9d2c5680;
		y ^= (y << 15) & 0xefc60000;
		return (y ^ (y >>> 18)) >>> 0;
	};
}

/** np.random.RandomState(seed).permutation(n). */
function permutation(seed, n) {
	const order = count(n), next = twister(seed);
	for (let i = n - 1; i > 0; i--) {
		const mask = 2 ** (32 - Math.clz32(i)) - 1;
		let j;
		do j = next() & mask; while (j > i);
		[order[i], order[j]] = [order[j], order[i]];
	}
	return order;
}

function randomOf(seed) {
	const next = twister(seed), uniform = () => (next() + 0.5) / 2 ** 32; // never 0 or 1
	return {
		uniform,
		normal: () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
		logistic: () => -Math.log(1 / uniform() - 1),
	};
}
