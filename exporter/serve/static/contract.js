// What the model's numbers mean: contract.json, read as far as an app needs it.

const SCHEMA = 1;
const FIXED = {
  layout: "NHWC",
  dtype: "uint8",
  color: "RGB",
  interpolation: "bilinear",
  antialias: true,
  crop: "center",
};

function require(condition, what) {
  if (!condition) throw new Error(`contract.json cannot be used: ${what}.`);
}

function checkInput(rule) {
  for (const [key, value] of Object.entries(FIXED)) {
    require((rule[key] ?? value) === value, `input.${key} is ${rule[key]}`);
  }
  for (const key of ["height", "width", "resize_shorter_side"]) {
    require(Number.isInteger(rule[key]) && rule[key] > 0, `input.${key} is ${rule[key]}`);
  }
  const crop = Math.max(rule.height, rule.width);
  require(rule.resize_shorter_side >= crop, "the crop is larger than the resized picture");
}

/** {name, rule, threshold, labels, labelHash, tellsVenom} of the text of contract.json. */
export function readContract(text) {
  const root = JSON.parse(text);
  require(root.schema === SCHEMA, `its schema is ${root.schema}, this page reads ${SCHEMA}`);
  checkInput(root.input);
  require(Array.isArray(root.labels) && root.labels.length >= 2, "it has no labels");
  const labels = root.labels.map((label) => {
    const { name, scientific_name: scientificName, venomous } =
      typeof label === "string" ? { name: label } : label;
    return { name, scientificName, venomous: venomous ?? "unknown" };
  });
  return {
    name: root.name ?? "classifier",
    rule: { exif: "apply", ...root.input },
    threshold: root.output.not_sure_threshold ?? 0.5,
    labels,
    labelHash: root.label_hash,
    tellsVenom: labels.some((label) => label.venomous !== "unknown"),
  };
}

/** The `count` likeliest labels, and whether the first is likely enough. Ties: the earlier label. */
export function rank(contract, probabilities, count = 3) {
  if (probabilities.length !== contract.labels.length) {
    const { length } = contract.labels;
    throw new Error(`The model gave ${probabilities.length} numbers for ${length} labels.`);
  }
  const top = Array.from(probabilities, (probability, index) => ({
    probability,
    index,
    label: contract.labels[index],
  }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, count);
  return { sure: top[0].probability >= contract.threshold, top };
}
