"use strict";
/* Every word of the page, twice; $…$ is mathematics. */

const ARTICLE = 'href="https://kexue.fm/archives/5776" rel="noreferrer"';

const WORDS = {
	en: {
		other: "中文",
		title: "A flow in your hands",
		lead: `NICE turns a picture $x$ into a code $z$ of the same size, turns it back without loss, and says exactly how likely $x$ is. Your browser does it here, after Su Jianlin’s article <a ${ARTICLE}>细水长flow之NICE</a>; formula numbers are the article’s.`,
		theme: "Light or dark",
		loading: "Weights are loading",
		footer: "Nothing you draw leaves this page.",
		nats: "nats",

		h1: "Move the code, watch the picture",
		p1: "Draw numbers $z$, rescale them, run the additive couplings backwards: a picture. $σ$ says how much of it each dimension carries.",
		digit: "The decoded picture",
		new: "New z",
		encode: "A test digit’s z",
		T: "Temperature $T$",
		wide: "The widest dimensions",
		narrow: "A collapsed one does next to nothing",
		stages: "From the code to the picture",
		colours: "White is positive, blue negative; $z$ is dimmed to a third; each dimension is at its pixel.",

		h2: "Draw a digit, read its likelihood",
		p2: "Your drawing is scaled and centred as MNIST’s digits were. Its log-likelihood is exact: a GAN has none, a VAE only a bound.",
		pad: "By finger, mouse, or arrow keys and Space",
		hint: "Draw a digit",
		clear: "Blank page",
		some: "A test digit",
		corner: "White corner pixel",
		seen: "as the flow sees it",
		rank: "likelier than {share} % of {count} test digits; median {median}",
		shift: "Shift (pixels)",
		shifted: "Moved by {shift}, test digits fall from a median of {from} to {to}: the eye sees no difference.",
		blanked: "A blank page is likelier than most digits: a high density is not yet typical.",
		cornered: "One pixel that was never white in training: a tiny $σ$, an enormous price.",
		trip: "There and back, the largest error:",
		near: "The nearest training digits",

		h3: "Ask for a digit",
		p3: "Digits fill only a part of the prior’s space. Fit Gaussians to the codes of each class and draw from those.",
		fitted: "From the fitted codes",
		prior: "From the prior, $T$ = 0.75",
		spread: "$T$ of fitted codes",
		nocodes: "These weights carry no fitted codes; others are under 6.",

		h4: "Between two digits",
		p4: "A straight line in $z$: one digit bends into the other. The same mixture of pixels is two ghosts. Which is likelier, in nats?",
		line: "line in $z$:",
		blend: "blend of pixels:",
		pair: "Two other digits",
		t: "$t$",

		h5: "Make it likelier, fill it in",
		p5: "The likelihood has a gradient: climb it. What is erased, $H$, is filled in from the rest. A step that does not rise is halved.",
		take: "The picture above",
		right: "Erase the right half",
		lower: "the lower half",
		climb: "Climb",
		stop: "Stop",
		climbed: "{from} → {to} <small>nats, {step} steps</small>",

		h6: "Other weights",
		p6: "Choose some, or drop a file that <code>nice.py</code> wrote on this page.",
		file: "Open a file …",
		deep: "deep: small couplings, many",
		pretrained: "pretrained: the article’s",
		paper: "paper: the paper’s",
		"noise-free": "noise-free: the article’s first day",
		facts: "{couplings} additive couplings, $m$ of {depth} × {units}, {output_activation}; {parameters} parameters; {prior} prior; $σ$ from {narrow} to {wide}",
		gaussian: "Gaussian",
		logistic: "logistic",

		missing: "{name} could not be fetched. The page goes on with what it has.",
		damaged: "{name} is damaged, or no file of this project’s kind. The page goes on with what it had.",
		reading: "MNIST is loading …",
		opened: "Opened as a file, the page may not read its neighbours: open weights/deep.safetensors and data/mnist.npz under 6, or run make play.",
		unfit: "MNIST’s digits are not {height} × {width}.",
	},

	zh: {
		other: "English",
		title: "动手玩流模型",
		lead: `NICE 把图片 $x$ 变成同样大小的编码 $z$，又能分毫不差地变回来，还能算出 $x$ 的精确似然。以下全部由浏览器现场计算，依照苏剑林的文章<a ${ARTICLE}>《细水长flow之NICE》</a>，公式编号与文章一致。`,
		theme: "切换深浅色",
		loading: "正在加载权重",
		footer: "你写的内容不会离开这个页面。",
		nats: "nat",

		h1: "拨动编码，看图片怎么变",
		p1: "采样一组 $z$，做尺度变换，再把加性耦合层逆着走一遍，就得到一张图片。$σ$ 反映每个维度的重要程度，很小的就是“维度压缩”。",
		digit: "生成的图片",
		new: "重新采样",
		encode: "某张测试图片的 z",
		T: "退火参数 $T$",
		wide: "$σ$ 最大的几个维度",
		narrow: "被压缩的维度，怎么拨都几乎不变",
		stages: "从编码到图片",
		colours: "白为正，蓝为负；$z$ 按三分之一亮度显示；各维度都画在对应的像素上。",

		h2: "写个数字，看它的似然",
		p2: "你写的数字会像 MNIST 那样缩放、居中。这里的对数似然是精确值：GAN 给不出，VAE 只有下界。",
		pad: "可用手指、鼠标，或方向键加空格键",
		hint: "在这里写一个数字",
		clear: "清空（空白图片）",
		some: "一张测试图片",
		corner: "点亮角上的像素",
		seen: "模型所见",
		rank: "高于 {count} 张测试图片中的 {share}%，它们的中位数是 {median}",
		shift: "平移（像素）",
		shifted: "平移 {shift} 个像素，测试图片的中位数就从 {from} 降到 {to}，肉眼却看不出区别。",
		blanked: "空白图片的似然高过大多数数字：密度高，不等于典型。",
		cornered: "训练集里这个像素从不亮，$σ$ 极小，代价极大。",
		trip: "编码再解码的最大误差：",
		near: "最接近的训练图片",

		h3: "想要几，就生成几",
		p3: "数字的编码只占先验分布的一小部分。对每一类数字的编码拟合高斯分布，再从中采样即可。",
		fitted: "从拟合的编码采样",
		prior: "从先验分布采样，$T$ = 0.75",
		spread: "拟合编码的 $T$",
		nocodes: "这组权重没有拟合的编码，可在第 6 节另选。",

		h4: "两个数字之间",
		p4: "在两个编码之间走直线，一个数字会渐渐变成另一个；混合像素则只是两个重影。模型认为哪个似然更高（单位 nat）？",
		line: "$z$ 的插值：",
		blend: "像素的插值：",
		pair: "换两个数字",
		t: "$t$",

		h5: "提高似然，补全图片",
		p5: "似然可以求梯度，沿着它上升即可。如果擦掉一部分 $H$，就由其余部分补全。似然不升，步长就减半。",
		take: "上面的图片",
		right: "擦掉右半边",
		lower: "擦掉下半边",
		climb: "上升",
		stop: "停止",
		climbed: "{from} → {to} <small>nat，{step} 步</small>",

		h6: "换一组权重",
		p6: "从列表里选，或把 <code>nice.py</code> 保存的文件拖到页面上。",
		file: "打开文件……",
		deep: "deep：耦合层小而多",
		pretrained: "pretrained：文章的模型",
		paper: "paper：论文的实验设置",
		"noise-free": "noise-free：文章当天的版本，无噪声",
		facts: "{couplings} 个加性耦合层，$m$ 为 {depth} × {units}，{output_activation}；{parameters} 个参数；先验为{prior}；$σ$ 从 {narrow} 到 {wide}",
		gaussian: "高斯分布",
		logistic: " logistic 分布",

		missing: "{name} 加载失败，页面继续使用已有的内容。",
		damaged: "{name} 已损坏，或不是本项目的文件。页面继续使用已有的内容。",
		reading: "正在加载 MNIST……",
		opened: "以本地文件打开时，页面无权读取旁边的文件：请在第 6 节打开 weights/deep.safetensors 和 data/mnist.npz，或运行 make play。",
		unfit: "MNIST 的图片不是 {height} × {width}。",
	},
};

/** HTML of a formula: letters in italics, words upright, _ and ^ for indices. */
function math(text) {
	return text.replace(/[_^](\w|\(.+?\)|\{.+?\})|[a-zα-ω]+/gi, (found, index) => {
		if (!index) return found.length > 1 ? found : `<i>${found}</i>`;
		const tag = found[0] === "_" ? "sub" : "sup";
		return `<${tag}>${math(index.replace(/[{}]/g, ""))}</${tag}>`;
	});
}

/** The words of a key in the page's language, as HTML. */
function say(key, values = {}) {
	const escaped = (name) => String(values[name]).replace(/[<&]/g, (c) => `&#${c.charCodeAt()};`);
	return WORDS[state.lang][key].replace(/\{(\w+)\}/g, (_, name) => escaped(name))
		.replace(/\$(.+?)\$/g, (_, formula) => math(formula));
}
