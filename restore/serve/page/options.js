// The fields of a task's options, as GET /api/tasks describes them, and the command that says the
// same.

import { $, button, changed, made, state, titled } from "./shared.js";
import { isMaskNeeded, maskWord } from "./mask.js";

// Letters that a narrow field does not show whole.
const LONG_PLACEHOLDER = 14;

export function showOptions() {
  const own = [];
  const shared = [];
  for (const option of state.task.options) (option.own ? own : shared).push(field(option));
  for (const upload of state.task.uploads) if (upload.name !== "mask") shared.push(fileField(upload));
  $("own").replaceChildren(...own);
  $("shared").replaceChildren(...shared);
}

function field(option) {
  const values = state.values[state.task.name];
  const id = `option-${option.name}`;
  const input = option.closed ? choice(option) : entry(option);
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-help`);
  if (option.type === "switch") input.checked = values[option.name] ?? option.default;
  else input.value = values[option.name] ?? input.value;
  input.addEventListener("input", () => {
    values[option.name] = option.type === "switch" ? input.checked : input.value;
    changed();
  });

  const part = made("div", { class: `option ${option.type}` });
  const label = made("label", { for: id }, titled(option.flag));
  part.append(...(option.type === "switch" ? [input, label] : [label, input]));
  const examples = option.closed ? [] : option.words;
  const isLong = (input.placeholder?.length ?? 0) > LONG_PLACEHOLDER;
  if (examples.length > 2 || option.required || isLong) part.classList.add("wide");
  if (examples.length) part.append(chips(examples, input, option));
  part.append(made("p", { class: "quiet", id: `${id}-help` }, option.help));
  return part;
}

function entry(option) {
  const input = made("input");
  if (option.type === "switch") input.type = "checkbox";
  else {
    input.type = option.type === "text" ? "text" : "number";
    input.step = option.type === "number" ? "any" : "1";
    input.required = option.required;
    input.spellcheck = false;
    input.autocomplete = "off";
    input.placeholder = option.required ? "needed" : option.default ?? option.implied;
  }
  return input;
}

function choice(option) {
  const select = made("select");
  const words = option.words.filter((word) => word !== option.implied);
  if (option.default === null) select.append(made("option", { value: "" }, option.implied || "–"));
  select.append(...words.map((word) => made("option", { value: word }, word)));
  select.value = option.default ?? "";
  return select;
}

function chips(words, input, option) {
  const part = made("div", { class: "chips" });
  part.append(...words.map((word) => button(word, () => {
    input.value = word;
    input.dispatchEvent(new Event("input"));
  }, { "aria-label": `${titled(option.flag)}: ${word}` })));
  return part;
}

function fileField(upload) {
  const files = state.files[state.task.name];
  const id = `option-${upload.name}`;
  const part = made("div", { class: "option wide" });
  const input = made("input", { id, type: "file", "aria-describedby": `${id}-help` });
  input.addEventListener("input", () => {
    files[upload.name] = input.files[0];
    changed();
  });
  if (files[upload.name]) {
    const kept = new DataTransfer();
    kept.items.add(files[upload.name]);
    input.files = kept.files;
  }
  part.append(made("label", { for: id }, titled(upload.flag)), input);
  part.append(made("p", { class: "quiet", id: `${id}-help` }, upload.help));
  return part;
}

// Browsers point to a wrong field only where it can be seen.
$("options").addEventListener("invalid", (event) => {
  const hidden = event.target.closest("details");
  if (hidden) hidden.open = true;
}, true);

// The options that differ from their defaults, as the API takes them.
export function given() {
  const values = state.values[state.task.name];
  const found = {};
  for (const option of state.task.options) {
    const value = values[option.name];
    if (value === undefined || value === "" || value === option.default) continue;
    found[option.name] = ["number", "integer"].includes(option.type) ? Number(value) : value;
  }
  return found;
}

export function givenFiles() {
  const files = Object.entries(state.files[state.task.name]);
  return Object.fromEntries(files.filter(([, file]) => file));
}

// One line for each picture. A word is not broken at its hyphens.
export function showCommand() {
  const pictures = state.pictures.length ? state.pictures : [null];
  $("command").replaceChildren(...pictures.flatMap((picture, number) => {
    const parts = commandFor(picture).map((word) => made("span", {}, quoted(word)));
    return [...(number ? ["\n"] : []), ...parts.flatMap((part, at) => (at ? [" ", part] : [part]))];
  }));
}

function commandFor(picture) {
  const words = ["restore", state.task.name];
  const values = given();
  for (const option of state.task.options) {
    if (!(option.name in values)) continue;
    const value = values[option.name];
    if (value === true) words.push(option.flag);
    else if (value === false) words.push(option.flag.replace("--", "--no-"));
    else words.push(option.flag, String(value));
  }
  if (isMaskNeeded()) {
    words.push("--mask", maskWord(picture));
    if (picture?.maskScale < 1 && !picture.maskFile && !picture.finds) words.push("--fit-mask");
  }
  const files = givenFiles();
  for (const { name, flag } of state.task.uploads) if (files[name]) words.push(flag, files[name].name);
  words.push(picture ? picture.name : "picture.png");
  return words;
}

const quoted = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
  } catch { // only pages of this machine, or with TLS, may write there
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = "Selected; copy with Ctrl-C";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2500);
});
