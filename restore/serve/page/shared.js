// What all parts of the page share. Every text is set as text, never as HTML, since names and
// metadata of pictures come from anywhere.

export const state = {
  tasks: [], // as GET /api/tasks tells them
  limits: {},
  task: null,
  values: {}, // options as they were typed, by task
  files: {}, // files besides picture and mask, by task
  pictures: [],
  chosen: null, // the picture that is shown
  results: [],
  job: null, // the job that runs
  busy: false,
  stopped: false,
};

// Settled when the tasks are known; until then there is nothing to do with a picture.
export const known = new Promise((resolve) => document.addEventListener("known", resolve));

export const $ = (id) => document.getElementById(id);

export function made(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

export function button(text, act, attributes = {}) {
  const element = made("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

export const tell = (text) => { $("message").textContent = worded(text); };
export const say = (text) => { $("said").textContent = text; };

// The options, the pictures or the mask are others: the command shown follows.
export const changed = () => document.dispatchEvent(new Event("changed"));

export function showSide(side) {
  $("sides").hidden = !state.busy && !state.results.length;
  for (const one of ["input", "output"]) {
    $(one).hidden = one !== side;
    $(`show-${one}`).setAttribute("aria-pressed", one === side);
  }
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || name;

export const size = (bytes) =>
  (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`)
    .replace(" ", "\u00a0");

export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function titled(name) {
  const text = name.replace(/^--/, "").replaceAll(/[-_]/g, " ").replace("jpeg", "JPEG");
  return text[0].toUpperCase() + text.slice(1);
}

// The API names options as Python does, and pictures by names of its own: `scale`=0.5 is Scale 0.5.
export function worded(text) {
  const known = new Map((state.task?.options ?? []).map((option) => [option.name, option.flag]));
  return text
    .replace(/(^|: )picture(\.\w+)?: /, "$1")
    .replace(/`(\w+)`(=?)/g, (whole, name, is) =>
      known.has(name) ? `${titled(known.get(name))}${is ? " " : ""}` : whole);
}

// Width of a picture on the screen: whole, and not so small that it cannot be painted on.
export const fitted = (width, height) =>
  `min(100%, ${Math.max(width, 640)}px, ${(58 * width) / height}vh)`;

export function saved(blob, name) {
  const link = made("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
