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

function checkThresholds(output, count) {
  const { thresholds } = output;
  if (thresholds === undefined) return;
  require(output.activation === "sigmoid", "output.thresholds go with sigmoid");
  const right = Array.isArray(thresholds) && thresholds.length === count;
  require(right, `output.thresholds has not ${count} numbers`);
  const sound = (value) => typeof value === "number" && value >= 0 && value <= 1;
  require(thresholds.every(sound), "output.thresholds are not 0 to 1");
}

/**
 * {name, rule, several, threshold, thresholds, labels, labelHash, tellsVenom} of the text of
 * contract.json. `several`: each class stands for itself; `thresholds`: one a class, or undefined
 * where all share `threshold`.
 */
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
  checkThresholds(root.output, labels.length);
  return {
    name: root.name ?? "classifier",
    rule: { exif: "apply", ...root.input },
    several: root.output.activation === "sigmoid",
    threshold: root.output.not_sure_threshold ?? 0.5,
    thresholds: root.output.thresholds,
    labels,
    labelHash: root.label_hash,
    tellsVenom: labels.some((label) => label.venomous !== "unknown"),
  };
}

/** Whether a class is likely enough to be there; both in float32, as Python and the app compare. */
export function reaches(contract, index, probability) {
  const wanted = contract.thresholds?.[index] ?? contract.threshold;
  return Math.fround(probability) >= Math.fround(wanted);
}

/** The indices of the classes that are there, in the order of the labels. */
export function present(contract, probabilities) {
  return [...probabilities.keys()].filter((index) => reaches(contract, index, probabilities[index]));
}

/**
 * {sure, top, present}: `top` has the `count` likeliest labels; `present` what the picture shows, the
 * likeliest first: all that are likely enough where there may be several, else the first where it is.
 * Ties: the earlier label.
 */
export function rank(contract, probabilities, count = 3) {
  if (probabilities.length !== contract.labels.length) {
    const { length } = contract.labels;
    throw new Error(`The model gave ${probabilities.length} numbers for ${length} labels.`);
  }
  const ranked = Array.from(probabilities, (probability, index) => ({
    probability,
    index,
    label: contract.labels[index],
  })).sort((a, b) => b.probability - a.probability || a.index - b.index);
  const considered = contract.several ? ranked : ranked.slice(0, 1);
  const found = considered.filter((one) => reaches(contract, one.index, one.probability));
  return { sure: found.length > 0, top: ranked.slice(0, count), present: found };
}
