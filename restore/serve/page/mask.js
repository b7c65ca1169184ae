// The mask: painted with a brush, read from a file, or found by the server. Each picture has its
// own; strokes are kept as points, and what was before each change, so that it can be undone.

import { $, changed, fitted, saved, state, stem, tell } from "./shared.js";
import { viewed } from "./server.js";

const MASK_PIXELS = 16e6; // a larger picture gets a smaller mask, which is resized (fit_mask)
const COLOUR = "#ff2d55";
const KEYS = " With the keyboard, the arrow keys move the brush, the space bar paints, [ and ] change "
  + "its size, and Ctrl-Z undoes.";
const HOW = `Paint over what is to be filled.${matchMedia("(hover: hover)").matches ? KEYS : ""}`;
const FOUND = "Scratches and dust are found in the picture when it is restored, and come as a mask "
  + "beside the result.";

const canvas = $("mask");
const brush = { erases: false, stroke: null, x: 0, y: 0 };

const upload = () => state.task.uploads.find((one) => one.name === "mask");
const finder = () => upload()?.words[0];
export const isMaskNeeded = () => Boolean(upload());

// What a picture knows of its mask.
export const noMask = ({ width, height }) => ({
  strokes: [],
  maskFile: null,
  maskPicture: null,
  finds: false,
  past: [],
  maskScale: Math.min(1, Math.sqrt(MASK_PIXELS / (width * height))),
});

export const isMasked = (picture) =>
  picture.finds || picture.maskFile !== null || picture.strokes.some((stroke) => !stroke.erases);

// What the command has after --mask.
export function maskWord(picture) {
  if (picture?.finds) return finder();
  if (picture?.maskFile && !picture.strokes.length) return picture.maskFile.name;
  return picture ? `${stem(picture.name)}_mask.png` : "mask.png";
}

// ---------------------------------------------------------------- drawing

export function showMask() {
  const picture = state.chosen;
  const needed = Boolean(picture) && isMaskNeeded();
  $("mask-tools").hidden = canvas.hidden = !needed;
  if (!needed) return;

  const { width, height } = picture.facts;
  $("stage").style.width = fitted(width, height);
  canvas.width = Math.max(1, Math.round(width * picture.maskScale));
  canvas.height = Math.max(1, Math.round(height * picture.maskScale));
  brush.x = canvas.width / 2;
  brush.y = canvas.height / 2;
  $("find").hidden = !finder();
  showTools();
  drawOn(canvas, picture);
}

function showTools() {
  const { finds } = state.chosen;
  $("find").setAttribute("aria-pressed", finds);
  $("mask-text").textContent = finds ? FOUND : HOW;
  canvas.classList.toggle("found", finds);
  for (const id of ["brush", "eraser", "size", "undo", "clear", "save-mask"]) $(id).disabled = finds;
}

function drawOn(target, { maskPicture, strokes, finds }) {
  const context = target.getContext("2d");
  context.clearRect(0, 0, target.width, target.height);
  if (finds) return;
  if (maskPicture) context.drawImage(maskPicture, 0, 0, target.width, target.height);
  for (const { points, ...stroke } of strokes) {
    // piece by piece as it was painted, so that its edge is the same
    points.forEach((point, at) => {
      drawStroke(context, { points: at ? [points[at - 1], point] : [point], ...stroke });
    });
  }
}

function drawStroke(context, { points, width, erases }) {
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = COLOUR;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  if (points.length === 1) {
    context.arc(points[0][0], points[0][1], width / 2, 0, 7);
    context.fill();
  } else {
    points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

// The mask as a file: white where the canvas is painted. A file that was not painted over goes as
// it is.
export function maskOf(picture) {
  if (picture.maskFile && !picture.strokes.length) return Promise.resolve(picture.maskFile);
  const whole = document.createElement("canvas");
  whole.width = Math.max(1, Math.round(picture.facts.width * picture.maskScale));
  whole.height = Math.max(1, Math.round(picture.facts.height * picture.maskScale));
  drawOn(whole, picture);
  const context = whole.getContext("2d");
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, whole.width, whole.height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, whole.width, whole.height);
  return new Promise((resolve) => whole.toBlob(resolve, "image/png"));
}

// ---------------------------------------------------------------- the brush

// pixels of the mask for each pixel of the screen
const ratio = () => canvas.width / (canvas.getBoundingClientRect().width || 1);
const brushWidth = () => Math.max(1, Number($("size").value) * ratio());

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * ratio(), (event.clientY - box.top) * ratio()];
}

function beginStroke(point) {
  if (state.chosen.finds) return;
  remember();
  brush.stroke = { points: [point], width: brushWidth(), erases: brush.erases };
  state.chosen.strokes.push(brush.stroke);
  drawStroke(canvas.getContext("2d"), brush.stroke);
}

function extendStroke(point) {
  const { points, ...stroke } = brush.stroke;
  drawStroke(canvas.getContext("2d"), { points: [points.at(-1), point], ...stroke });
  points.push(point);
}

function endStroke() {
  brush.stroke = null;
  changed();
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  canvas.focus({ preventScroll: true });
  beginStroke(place(event));
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  [brush.x, brush.y] = place(event);
  showCursor();
  if (brush.stroke) extendStroke([brush.x, brush.y]);
});
canvas.addEventListener("pointerup", endStroke);
canvas.addEventListener("pointercancel", endStroke);
canvas.addEventListener("pointerleave", hideCursor);
canvas.addEventListener("focus", showCursor);
canvas.addEventListener("blur", hideCursor);

canvas.addEventListener("keydown", (event) => {
  const step = brushWidth() / 2;
  const [right, down] = {
    ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1],
  }[event.key] ?? [0, 0];
  if (right || down) {
    brush.x = Math.min(canvas.width, Math.max(0, brush.x + right * step));
    brush.y = Math.min(canvas.height, Math.max(0, brush.y + down * step));
    if (brush.stroke) extendStroke([brush.x, brush.y]);
  } else if (event.key === " ") {
    if (!event.repeat && !brush.stroke) beginStroke([brush.x, brush.y]);
  } else if (event.key === "[" || event.key === "]") {
    $("size").value = Number($("size").value) + (event.key === "]" ? 5 : -5);
    $("size-shown").textContent = $("size").value;
  } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    undo();
  } else return;
  event.preventDefault();
  showCursor();
});
canvas.addEventListener("keyup", (event) => { if (event.key === " ") endStroke(); });

function showCursor() {
  const cursor = $("cursor");
  cursor.style.display = state.chosen?.finds ? "none" : "block";
  cursor.style.width = cursor.style.height = `${brushWidth() / ratio()}px`;
  cursor.style.left = `${brush.x / ratio()}px`;
  cursor.style.top = `${brush.y / ratio()}px`;
}

function hideCursor() {
  $("cursor").style.display = "none";
}

// ---------------------------------------------------------------- the tools

function change(mask) {
  Object.assign(state.chosen, mask);
  showTools();
  drawOn(canvas, state.chosen);
  changed();
}

function remember() {
  const { strokes, maskFile, maskPicture, past } = state.chosen;
  past.push({ strokes: [...strokes], maskFile, maskPicture });
}

function undo() {
  change(state.chosen.past.pop() ?? {});
}

for (const [id, erases] of [["brush", false], ["eraser", true]]) {
  $(id).addEventListener("click", () => {
    brush.erases = erases;
    $("brush").setAttribute("aria-pressed", !erases);
    $("eraser").setAttribute("aria-pressed", erases);
  });
}
$("size").addEventListener("input", () => { $("size-shown").textContent = $("size").value; });
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => {
  remember();
  change({ strokes: [], maskFile: null, maskPicture: null });
});
$("find").addEventListener("click", () => change({ finds: !state.chosen.finds }));
$("save-mask").addEventListener("click", async () => {
  saved(await maskOf(state.chosen), maskWord(state.chosen));
});

$("mask-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  tell("");
  try {
    const bitmap = await createImageBitmap(await (await viewed(file)).blob());
    remember();
    change({ strokes: [], maskFile: file, maskPicture: coloured(bitmap), finds: false });
  } catch (error) {
    tell(`${file.name}: ${error.message}`);
  }
});

// The mask of a file as it is painted: coloured where it is white.
function coloured(bitmap) {
  const picture = document.createElement("canvas");
  picture.width = canvas.width;
  picture.height = canvas.height;
  const context = picture.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(COLOUR.slice(at, at + 2), 16));
  for (let at = 0; at < pixels.data.length; at += 4) {
    const isWhite = pixels.data[at] + pixels.data[at + 1] + pixels.data[at + 2] > 382;
    pixels.data.set([red, green, blue, isWhite ? 255 : 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return picture;
}
