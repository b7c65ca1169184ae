// A result: before and after, the samples and their map, how it was restored, and the downloads.

import {
  $, button, made, saved, showSide, size, state, stem, tell, titled, worded,
} from "./shared.js";
import { take } from "./pictures.js";
import { brightness, WHITE } from "./deviation.js";
import { zipped } from "./zip.js";

const REPORTED = ["method", "steps", "samples", "seed", "noise", "consistency", "seconds", "model",
  "device", "operator"];

let current = null;

// The files of a job in their own names, as they are shown and downloaded.
export function fileOf(file, blob, view, picture, task) {
  const isShown = file.type.startsWith("image/");
  return {
    name: namedLike(picture.name, file, task),
    kind: kindOf(file.name),
    blob,
    url: URL.createObjectURL(blob),
    view: isShown ? URL.createObjectURL(view) : null,
  };
}

function namedLike(name, file, task) {
  // the suffix is that of the picture where both mean the same format, as .jpg and .jpeg do
  const formats = [/\.jpe?g$|\.jpe$|\.jfif$/i, /\.tiff?$/i];
  const known = formats.find((format) => format.test(name) && format.test(file.name));
  const whole = file.name.replace(/^restored/, () => `${stem(name)}-${task.name}`);
  return known ? whole.replace(known, () => name.match(known)[0]) : whole;
}

function kindOf(name) {
  const sample = name.match(/\.sample(\d+)\./);
  if (sample) return `Sample ${Number(sample[1])}`;
  if (name.includes(".std.")) return "Standard deviation of the samples";
  if (name.endsWith(".npy")) return "Kernel";
  if (name.includes(".mask.")) return "Mask of the scratches";
  return "Restored";
}

export function forget() {
  for (const { files } of state.results) {
    for (const file of files ?? []) {
      URL.revokeObjectURL(file.url);
      if (file.view) URL.revokeObjectURL(file.view);
    }
  }
  state.results = [];
  $("done").hidden = true;
  $("list").hidden = true;
}

export function showResult(result) {
  current = result;
  const { report } = result.job;
  $("done").hidden = false;
  const views = result.files.filter((file) => file.view);
  $("which").replaceChildren(...views.map((file) => made("option", { value: file.name }, file.kind)));
  $("choice").hidden = views.length < 2;
  $("before").src = result.before;
  show(views[0]);
  $("words").textContent = result.job.words;
  $("notes").replaceChildren(...(report.notes ?? []).map((note) => made("li", {}, worded(note))));
  $("downloads").replaceChildren(...result.files.map(download));
  $("downloads").append(button("Restore it further", () => further(result.files[0])));
  $("report").replaceChildren(...REPORTED.flatMap((name) => {
    const value = report[name];
    const text = typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : value;
    return value == null ? [] : [made("dt", {}, titled(name)), made("dd", {}, String(text))];
  }));
  showList();
}

function download(file, index) {
  const text = index ? `↓ ${file.kind}` : `Download ${file.name} (${size(file.blob.size)})`;
  const kind = index ? "button" : "button main";
  const about = { title: file.name, "aria-label": `Download ${file.name}` };
  return made("a", { class: kind, href: file.url, download: file.name, ...about }, text);
}

async function further({ blob, name }) {
  showSide("input");
  await take([new File([blob], name)]);
}

export function showList() {
  $("list").hidden = state.results.length < 2;
  $("results").replaceChildren(...state.results.map((result) => {
    const line = made("li");
    if (result.error) line.append(made("span", {}, worded(`${result.name}: ${result.error}`)));
    else {
      const [file] = result.files;
      const pick = button(result.name, () => showResult(result), { "aria-pressed": result === current });
      line.append(pick, made("a", {
        class: "button", href: file.url, download: file.name, "aria-label": `Download ${file.name}`,
      }, "Download"));
    }
    return line;
  }));
  $("zip").hidden = state.busy || state.results.filter((result) => result.files).length < 2;
}

$("zip").addEventListener("click", async () => {
  try {
    const files = state.results.flatMap((result) => result.files ?? []);
    saved(await zipped(files), "restored.zip");
  } catch (error) {
    tell(error.message);
  }
});

// ---------------------------------------------------------------- before and after

function show(file) {
  $("after").src = file.view;
  $("after").alt = file.kind;
  const alone = /^Standard|^Mask/.test(file.kind);
  $("before-half").hidden = $("line").hidden = $("ends").hidden = alone;
  zoom();
  slide($("slider").value);
}

function zoom() {
  const factor = Number($("zoom").value);
  $("zoom-shown").textContent = factor ? `${factor}×` : "fit";
  const { naturalWidth: width, naturalHeight: height } = $("after");
  if (!width) return;
  const pane = $("window");
  const across = (pane.scrollLeft + pane.clientWidth / 2) / (pane.scrollWidth || 1);
  const down = (pane.scrollTop + pane.clientHeight / 2) / (pane.scrollHeight || 1);

  const { style, classList } = $("compare");
  style.aspectRatio = `${width} / ${height}`;
  style.width = factor ? `${width * factor}px` : `min(100%, ${(64 * width) / height}vh)`;
  classList.toggle("zoomed", factor > 0);
  for (const id of ["after", "before"]) {
    const isWhole = $(id).naturalWidth === width; // a smaller one before is enlarged smoothly
    $(id).style.imageRendering = factor > 1 && isWhole ? "pixelated" : "auto";
  }

  // what was in the middle stays there
  pane.scrollLeft = across * pane.scrollWidth - pane.clientWidth / 2;
  pane.scrollTop = down * pane.scrollHeight - pane.clientHeight / 2;
}

function slide(part) {
  $("slider").value = part;
  $("before-half").style.clipPath = `inset(0 ${100 - $("slider").value}% 0 0)`;
  $("line").style.left = `${$("slider").value}%`;
}

function slideTo(event) {
  const box = $("compare").getBoundingClientRect();
  slide((100 * (event.clientX - box.left)) / box.width);
}

let drag = null; // "slide" or "pan"

$("compare").addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  const isZoomed = $("zoom").value !== "0";
  drag = isZoomed && event.target !== $("line") ? "pan" : "slide";
  if (drag === "pan" && event.pointerType !== "mouse") return; // the browser scrolls
  $("compare").setPointerCapture(event.pointerId);
  if (drag === "slide") slideTo(event);
});
$("compare").addEventListener("pointermove", (event) => {
  if (!(event.buttons & 1)) return;
  if (drag === "slide") slideTo(event);
  else if (event.pointerType === "mouse") $("window").scrollBy(-event.movementX, -event.movementY);
});
$("compare").addEventListener("dblclick", () => {
  $("zoom").value = $("zoom").value === "0" ? 1 : 0;
  zoom();
});
$("window").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  $("zoom").value = Number($("zoom").value) - Math.sign(event.deltaY) * 0.25;
  zoom();
}, { passive: false });

// A map of standard deviations is mostly dark: it is shown brighter, and said how much.
function brighten() {
  const isMap = $("after").alt.startsWith("Standard");
  const factor = isMap ? brightness($("after")) : 1;
  $("after").style.filter = factor > 1 ? `brightness(${factor})` : "";
  $("map-text").hidden = !isMap;
  const shown = `${(WHITE / factor).toPrecision(2)}\u00a0%`;
  const more = factor > 1 ? ` In the file, white is ${WHITE}\u00a0%.` : "";
  $("map-text").textContent =
    `The brighter, the more the samples differ: white is a standard deviation of ${shown} of full `
    + `scale or more.${more}`;
}

for (const id of ["after", "before"]) $(id).addEventListener("load", zoom);
$("after").addEventListener("load", brighten);
$("zoom").addEventListener("input", zoom);
$("slider").addEventListener("input", () => slide($("slider").value));
$("which").addEventListener("change", () => {
  show(current.files.find((file) => file.name === $("which").value));
});
