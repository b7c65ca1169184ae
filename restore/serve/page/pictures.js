// The pictures to restore: by drop, paste or file, shown as the server decodes them.

import { $, button, changed, fitted, known, made, size, state, tell } from "./shared.js";
import { viewed } from "./server.js";
import { noMask, showMask } from "./mask.js";

// Settled when every picture that was dropped is read.
export let reading = Promise.resolve();

export function take(files) {
  reading = reading.then(() => takeAll(files));
  return reading;
}

async function takeAll(files) {
  await known;
  tell("");
  for (const file of files) {
    const name = file.name || "picture.png";
    $("facts").textContent = `Reading ${name} …`;
    try {
      state.pictures.push(await read(file, name));
    } catch (error) {
      tell(`${name}: ${error.message}`);
      continue;
    }
    state.chosen = state.pictures.at(-1);
    showPictures();
  }
  showPictures();
}

async function read(file, name) {
  const { bytes } = state.limits;
  if (file.size > bytes) {
    throw new Error(`it has ${size(file.size)}; at most ${size(bytes)} are taken`);
  }
  const answer = await viewed(file);
  const facts = JSON.parse(answer.headers.get("picture-facts"));
  return { file, name, facts, url: URL.createObjectURL(await answer.blob()), ...noMask(facts) };
}

function remove(picture) {
  state.pictures = state.pictures.filter((other) => other !== picture);
  if (state.chosen === picture) state.chosen = state.pictures[0] ?? null;
  showPictures();
  (document.querySelector("#pictures .pick") ?? $("file")).focus();
}

export function showPictures() {
  const picture = state.chosen;
  const count = state.pictures.length;
  $("pictures").replaceChildren(...state.pictures.map(listed));
  $("source").classList.toggle("small", count > 0);
  $("file-label").textContent = count ? "Add pictures" : "Choose pictures";
  $("drop-text").textContent = count ? "or drop or paste them." : "or drop them here, or paste one.";
  $("start").textContent = count > 1 ? `Restore ${count} pictures` : "Restore";
  $("stage").hidden = !picture;
  $("facts").textContent = picture ? described(picture) : "";
  if (picture) {
    $("shown").src = picture.url;
    $("shown").alt = picture.name;
    $("stage").style.width = fitted(picture.facts.width, picture.facts.height);
  }
  showMask();
  changed();
}

function listed(picture) {
  const line = made("li");
  const pick = button("", () => {
    state.chosen = picture;
    showPictures();
  }, { class: "pick", "aria-pressed": picture === state.chosen, title: picture.name });
  pick.append(made("img", { src: picture.url, alt: "" }), made("span", {}, picture.name));
  const drop = button("×", () => remove(picture), {
    class: "remove", "aria-label": `Remove ${picture.name}`, title: "Remove",
  });
  line.append(pick, drop);
  return line;
}

function described({ name, facts, file }) {
  const parts = [name, `${facts.width}×${facts.height}`, facts.format, `${facts.bits} bits`];
  if (facts.alpha) parts.push("transparency");
  if (facts.profile) parts.push("colour profile");
  return [...parts, size(file.size)].join(", ");
}

$("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  if (event.dataTransfer.types.includes("Files")) document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  takeFrom(event.dataTransfer);
});
document.addEventListener("paste", (event) => takeFrom(event.clipboardData));

function takeFrom({ files }) {
  if (!files.length || $("work").hidden) return;
  $("show-input").click();
  take([...files]);
}
