// Builds what is shown. Text goes in as text, never as HTML.

const VENOM = {
  yes: { words: "Venomous", path: "M8 1.5 15 14H1Z M8 6v4 M8 11.8v.4" },
  no: { words: "Not venomous", path: "M2.5 8.5 6.5 12.5 13.5 4" },
  unknown: {
    words: "Venom not known",
    path: "M5 5.6a3 3 0 1 1 4.4 2.6C8.4 8.8 8 9.3 8 10.3 M8 13v.4",
  },
};

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function sign(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** A sign and a word; the colour only repeats them. */
export function venomMark(venomous) {
  const { words, path } = VENOM[venomous] ?? VENOM.unknown;
  return element("span", { class: `venom ${venomous}` }, sign(path), words);
}

export function percent(probability) {
  const value = 100 * probability;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value > 99.9 && value < 100 ? 2 : 1)} %`;
}

/** A small number as people write it: 0, 0.012, 1.2e-7. */
export function small(number) {
  if (number === 0) return "0";
  if (!Number.isFinite(number)) return "not a number";
  return number >= 0.001 ? String(Number(number.toPrecision(2))) : number.toExponential(1);
}

export function milliseconds(value) {
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)} ms`;
}

function entry({ label, probability }, tellsVenom) {
  const bar = element("progress", { max: "1", value: String(probability), "aria-hidden": "true" });
  const scientific = label.scientificName
    ? element("i", { lang: "la" }, label.scientificName)
    : null;
  return element(
    "li",
    {},
    element("div", { class: "names" }, element("b", {}, label.name), scientific),
    element("span", { class: "share" }, percent(probability)),
    bar,
    tellsVenom ? venomMark(label.venomous) : null,
  );
}

/** Of several answers one venomous one is what matters. */
function worstOf(present) {
  const found = present.map(({ label }) => label.venomous);
  return ["yes", "unknown", "no"].find((word) => found.includes(word)) ?? "unknown";
}

/** Fills the result's headline, verdict and list. */
export function showAnswer(places, contract, { sure, top, present }) {
  const { tellsVenom, threshold, thresholds, several } = contract;
  places.answer.textContent = sure ? present.map(({ label }) => label.name).join(", ") : "Not sure";
  places.verdict.replaceChildren();
  if (sure && tellsVenom) places.verdict.append(venomMark(worstOf(present)));
  if (!sure) {
    const limit = thresholds ? "the threshold of its own" : percent(threshold);
    const why = `No class reaches ${limit}. It may be none of them; try another photo.`;
    places.verdict.append(element("p", {}, why));
    if (tellsVenom && top.some(({ label }) => label.venomous !== "no")) {
      places.verdict.append(element("p", {}, element("b", {}, "Treat it as venomous.")));
    }
  }
  places.result.classList.toggle("unsure", !sure);
  const listed = several && sure ? present : top;
  places.top.replaceChildren(...listed.map((one) => entry(one, tellsVenom)));
}

export function showSquare(canvas, { width, height, data }) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    image.data.set(data.subarray(from, from + 3), to);
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function mark(kind) {
  const { path } = kind === "bad" ? VENOM.yes : VENOM.no;
  const words = { exact: "Exact", good: "Within tolerance", bad: "Outside tolerance" };
  return element("span", { class: `mark ${kind}` }, sign(path), words[kind]);
}

function comparison(row) {
  if (row.differing === 0) return `All ${row.numbers} numbers are equal to the export's.`;
  return (
    `${row.differing} of ${row.numbers} numbers differ, by ${small(row.largest)} at most; ` +
    `${small(row.tolerance)} is allowed. Same ${row.several ? "classes" : "first answer"} on ` +
    `${row.agreeing} of ${row.images}.`
  );
}

function kindOf(row) {
  if (row.error || !(row.largest <= row.tolerance)) return "bad";
  return row.differing === 0 ? "exact" : "good";
}

/** One file of the proof. */
export function proofRow(row) {
  const made = element("section", { class: "row", "data-key": row.key });
  const status = row.error ? "bad" : kindOf(row);
  const heading = element("h3", {}, row.path, " ");
  if (row.error) {
    const failed = element("span", { class: "mark bad" }, sign(VENOM.yes.path), "Failed");
    made.append(element("div", { class: "head" }, heading, failed), element("p", {}, row.error));
    return made;
  }
  const { latency, group } = row;
  const measured = group > 1 ? `${latency.runs} groups of ${group}` : latency.runs;
  const speed = element(
    "p",
    { class: "speed" },
    element("b", {}, milliseconds(latency.median_ms)),
    ` an image (median of ${measured}; 90 % below ${milliseconds(latency.p90_ms)}, ` +
      `fastest ${milliseconds(latency.min_ms)})`,
  );
  made.append(element("div", { class: "head" }, heading, mark(status)));
  made.append(element("p", {}, comparison(row)), speed);
  return made;
}

/** How this page prepares a photograph, against Python. */
export function photoRow(row) {
  const kind = !row.right ? "bad" : row.differing === 0 ? "exact" : "good";
  const made = element("section", { class: "row", "data-photo": row.file });
  const heading = element("h3", {}, row.file, " ");
  made.append(element("div", { class: "head" }, heading, mark(kind)));
  const text = row.error
    ? row.error
    : row.differing === 0
      ? `Turned, resized and cropped here: all ${row.values} values are equal to Python's.`
      : `Turned, resized and cropped here: ${row.differing} of ${row.values} values differ from ` +
        `Python's, by ${row.largest} of 255 at most (${row.allowed} is allowed) and by ` +
        `${small(row.mean)} on average.`;
  made.append(element("p", {}, text));
  return made;
}

export function facts(list, pairs) {
  list.replaceChildren(
    ...pairs.flatMap(([what, value]) => [
      element("dt", {}, what),
      element("dd", {}, value),
    ]),
  );
}
