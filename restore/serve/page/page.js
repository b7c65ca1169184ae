"use strict";
// The page of `restore serve`. Everything it shows comes from the API beside it, and every text is
// set as text, never as HTML, since names and metadata of pictures come from anywhere.

const $ = (id) => document.getElementById(id);
const MASK_PIXELS = 16e6; // a larger picture gets a smaller mask, which is resized (fit_mask)
const COLOUR = "#ff2d55";

const state = {
  token: "", tasks: [], limits: {}, task: null, values: {}, pictures: [], chosen: null,
  results: [], job: null, stopped: false, busy: false,
};

// ---------------------------------------------------------------- the API

class Refused extends Error {
  constructor(status, text, wait) {
    super(text);
    this.status = status;
    this.wait = wait;
  }
}

async function api(path, options = {}) {
  const headers = { ...options.headers };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  const text = await answer.json().then((told) => told.error, () => answer.statusText);
  if (answer.status === 401) askForToken();
  throw new Refused(answer.status, text, Number(answer.headers.get("Retry-After")));
}

function form(parts) {
  const body = new FormData();
  for (const [name, value] of Object.entries(parts)) {
    if (value instanceof Blob) body.append(name, value, name);
    else body.append(name, value);
  }
  return body;
}

// The name that a file has on this machine stays here: the server gets the content alone.
const viewed = (file) => api("api/view", { method: "POST", body: form({ picture: file }) });

async function* events(path) {
  const answer = await api(path, { headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

// ---------------------------------------------------------------- start

function askForToken() {
  $("work").hidden = true;
  $("ask-token").hidden = false;
  $("token").focus();
}

$("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  begin();
});

async function begin() {
  try {
    const told = await (await api("api/tasks")).json();
    state.tasks = told.tasks;
    state.limits = told.limits;
  } catch (error) {
    if (error.status !== 401) tell(error.message);
    return;
  }
  sessionStorage.setItem("token", state.token);
  $("ask-token").hidden = true;
  $("work").hidden = false;
  const { bytes, pixels } = state.limits;
  $("limits").textContent =
    `At most ${Math.round(pixels / 1e6)} million pixels and ${Math.round(bytes / 1e6)} MB each.`;
  const health = await (await api("api/health")).json();
  $("version").textContent = `restore ${health.version}`;
  showTabs();
  choose(state.tasks[0]);
}

function showTabs() {
  $("tabs").replaceChildren(...state.tasks.map((task) => {
    const tab = made("button", { type: "button", role: "tab", id: `tab-${task.name}` }, task.title);
    tab.setAttribute("aria-controls", "work");
    tab.addEventListener("click", () => choose(task));
    return tab;
  }));
}

$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const place = state.tasks.indexOf(state.task) + step + state.tasks.length;
  choose(state.tasks[place % state.tasks.length]);
  $(`tab-${state.task.name}`).focus();
});

function made(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

const tell = (text) => { $("message").textContent = text; };
const hasMask = () => state.task.uploads.some((upload) => upload.name === "mask");

// ---------------------------------------------------------------- options

function choose(task) {
  state.task = task;
  state.values[task.name] ??= {};
  for (const tab of $("tabs").children) {
    const is = tab.id === `tab-${task.name}`;
    tab.setAttribute("aria-selected", is);
    tab.tabIndex = is ? 0 : -1;
  }
  $("about").textContent = task.about;
  const fields = task.options.map((option) => [option.own, field(option)]);
  $("own").replaceChildren(...fields.filter(([own]) => own).map(([, part]) => part));
  $("shared").replaceChildren(...fields.filter(([own]) => !own).map(([, part]) => part));
  tell("");
  showPicture();
}

function field(option) {
  const values = state.values[state.task.name];
  const id = `option-${option.name}`;
  const part = made("div", { class: `option ${option.type}` });
  const label = made("label", { for: id }, named(option.name) + (option.required ? " (needed)" : ""));
  const input = made("input", { id, "aria-describedby": `${id}-help` });
  if (option.type === "switch") {
    input.type = "checkbox";
    input.checked = values[option.name] ?? option.default;
    part.append(input, " ", label);
  } else {
    input.type = option.type === "text" ? "text" : "number";
    if (option.type === "number") input.step = "any";
    input.value = values[option.name] ?? "";
    input.required = option.required;
    if (option.default !== null) input.placeholder = option.default;
    part.append(label, input);
    if (option.words.length) {
      const list = made("datalist", { id: `${id}-words` });
      list.append(...option.words.map((word) => made("option", { value: word })));
      input.setAttribute("list", list.id);
      part.append(list);
    }
  }
  input.addEventListener("input", () => {
    values[option.name] = option.type === "switch" ? input.checked : input.value;
    showCommand();
  });
  part.append(made("p", { class: "quiet", id: `${id}-help` }, option.help));
  return part;
}

const named = (name) => {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
};

function given() {
  // the options that differ from their defaults, as the API takes them
  const values = state.values[state.task.name];
  const found = {};
  for (const option of state.task.options) {
    const value = values[option.name];
    if (value === undefined || value === "" || value === option.default) continue;
    found[option.name] = ["number", "integer"].includes(option.type) ? Number(value) : value;
  }
  return found;
}

function showCommand() {
  const words = ["restore", state.task.name];
  const values = given();
  for (const option of state.task.options) {
    if (!(option.name in values)) continue;
    const value = values[option.name];
    if (value === true) words.push(option.flag);
    else if (value === false) words.push(option.flag.replace("--", "--no-"));
    else words.push(option.flag, String(value));
  }
  const picture = state.chosen;
  if (hasMask()) {
    words.push("--mask", maskName(picture));
    if (picture && picture.maskScale < 1 && !picture.maskFile) words.push("--fit-mask");
  }
  words.push(picture ? picture.name : "picture.png");
  $("command").textContent = words.map(quoted).join(" ");
}

const quoted = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;

function maskName(picture) {
  if (picture?.maskFile && !picture.strokes.length) return picture.maskFile.name;
  return picture ? `${stem(picture.name)}_mask.png` : "mask.png";
}

const stem = (name) => name.replace(/\.[^.]*$/, "") || name;

$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("command").textContent).catch(() => {});
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});

// ---------------------------------------------------------------- pictures

async function take(files) {
  tell("");
  for (const file of files) {
    const picture = { file, name: file.name || "picture.png", strokes: [], maskFile: null };
    try {
      if (file.size > state.limits.bytes) {
        throw new Error(`it has ${size(file.size)}; at most ${size(state.limits.bytes)} are taken`);
      }
      const answer = await viewed(file);
      picture.facts = JSON.parse(answer.headers.get("picture-facts"));
      picture.url = URL.createObjectURL(await answer.blob());
    } catch (error) {
      tell(`${picture.name}: ${error.message}`);
      continue;
    }
    const { width, height } = picture.facts;
    picture.maskScale = Math.min(1, Math.sqrt(MASK_PIXELS / (width * height)));
    state.pictures.push(picture);
    state.chosen = picture;
  }
  showPicture();
}

function showPicture() {
  const picture = state.chosen;
  $("pictures").replaceChildren(...(state.pictures.length > 1 ? state.pictures : []).map((one) => {
    const line = made("li");
    const pick = made("button", { type: "button", "aria-pressed": one === picture }, one.name);
    pick.addEventListener("click", () => { state.chosen = one; showPicture(); });
    const drop = made("button", { type: "button", "aria-label": `Remove ${one.name}` }, "Remove");
    drop.addEventListener("click", () => {
      state.pictures = state.pictures.filter((other) => other !== one);
      if (state.chosen === one) state.chosen = state.pictures[0] ?? null;
      showPicture();
    });
    line.append(pick, drop);
    return line;
  }));
  $("stage").hidden = !picture;
  $("mask-tools").hidden = !picture || !hasMask();
  $("mask").hidden = !picture || !hasMask();
  $("facts").textContent = picture ? described(picture) : "";
  if (picture) {
    const { width, height } = picture.facts;
    const wide = Math.max(width, 480); // a small one is enlarged, to be painted on
    $("stage").style.width = `min(100%, ${wide}px, ${(70 * width) / height}vh)`;
    $("shown").src = picture.url;
    prepareMask();
  }
  showCommand();
}

function described({ name, facts, file }) {
  const parts = [name, `${facts.width}×${facts.height}`, facts.format, `${facts.bits} bits`];
  if (facts.alpha) parts.push("transparency");
  if (facts.profile) parts.push("colour profile");
  return [...parts, size(file.size)].join(", ");
}

const size = (bytes) =>
  bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

$("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (!$("work").hidden) take([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length && !$("work").hidden) take(files);
});

// ---------------------------------------------------------------- the mask

const canvas = $("mask");
const brush = { erases: false, stroke: null, x: 0, y: 0 };

function prepareMask() {
  const { facts, maskScale } = state.chosen;
  canvas.width = Math.max(1, Math.round(facts.width * maskScale));
  canvas.height = Math.max(1, Math.round(facts.height * maskScale));
  brush.x = canvas.width / 2;
  brush.y = canvas.height / 2;
  drawMask();
}

function drawMask() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const { maskPicture, strokes } = state.chosen;
  if (maskPicture) context.drawImage(maskPicture, 0, 0, canvas.width, canvas.height);
  for (const { points, ...stroke } of strokes) {
    // piece by piece as it was painted, so that its edge is the same
    points.forEach((point, at) => {
      drawStroke(context, { points: at ? [points[at - 1], point] : [point], ...stroke }, 0);
    });
  }
}

function drawStroke(context, { points, width, erases }, from) {
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = COLOUR;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  const parts = points.slice(from);
  context.beginPath();
  if (parts.length === 1) {
    context.arc(parts[0][0], parts[0][1], width / 2, 0, 7);
    context.fill();
  } else {
    parts.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

// pixels of the mask for each pixel of the screen
const ratio = () => canvas.width / (canvas.getBoundingClientRect().width || 1);
const brushWidth = () => Math.max(1, Number($("size").value) * ratio());

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * ratio(), (event.clientY - box.top) * ratio()];
}

function beginStroke(point) {
  brush.stroke = { points: [point], width: brushWidth(), erases: brush.erases };
  state.chosen.strokes.push(brush.stroke);
  drawStroke(canvas.getContext("2d"), brush.stroke, 0);
}

function extendStroke(point) {
  brush.stroke.points.push(point);
  drawStroke(canvas.getContext("2d"), brush.stroke, brush.stroke.points.length - 2);
}

function endStroke() {
  brush.stroke = null;
  showCommand();
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
canvas.addEventListener("pointerleave", () => { $("cursor").style.display = "none"; });
canvas.addEventListener("focus", showCursor);
canvas.addEventListener("blur", () => { $("cursor").style.display = "none"; });

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
  cursor.style.display = "block";
  cursor.style.width = cursor.style.height = `${brushWidth() / ratio()}px`;
  cursor.style.left = `${brush.x / ratio()}px`;
  cursor.style.top = `${brush.y / ratio()}px`;
}

function undo() {
  state.chosen.strokes.pop();
  drawMask();
  showCommand();
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
  Object.assign(state.chosen, { strokes: [], maskFile: null, maskPicture: null });
  drawMask();
  showCommand();
});

$("mask-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(await (await viewed(file)).blob());
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
    Object.assign(state.chosen, { strokes: [], maskFile: file, maskPicture: picture });
    drawMask();
    showCommand();
  } catch (error) {
    tell(`${file.name}: ${error.message}`);
  }
});

function maskOf(picture) {
  // a file that was not painted over goes as it is; else white where the canvas is painted
  if (picture.maskFile && !picture.strokes.length) return Promise.resolve(picture.maskFile);
  const before = state.chosen;
  state.chosen = picture;
  prepareMask();
  const whole = document.createElement("canvas");
  whole.width = canvas.width;
  whole.height = canvas.height;
  const context = whole.getContext("2d");
  context.drawImage(canvas, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, whole.width, whole.height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, whole.width, whole.height);
  state.chosen = before;
  if (before) prepareMask();
  return new Promise((resolve) => whole.toBlob(resolve, "image/png"));
}

$("save-mask").addEventListener("click", async () => {
  saved(await maskOf(state.chosen), maskName(state.chosen));
});

// ---------------------------------------------------------------- restoring

$("options").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (state.busy) return;
  if (!state.pictures.length) {
    tell("Choose a picture first.");
    return;
  }
  tell("");
  forget();
  Object.assign(state, { busy: true, stopped: false });
  $("start").disabled = true;
  $("cancel").hidden = false;
  const task = state.task;
  const options = given();
  for (const picture of [...state.pictures]) {
    if (state.stopped) break;
    try {
      await restore(task, options, picture);
    } catch (error) {
      state.results.push({ name: picture.name, error: error.message });
      tell(`${picture.name}: ${error.message}`);
      if (error.status === 401) break;
    }
    showList();
  }
  state.busy = false;
  $("start").disabled = false;
  $("cancel").hidden = true;
  $("running").hidden = true;
  showList();
});

$("cancel").addEventListener("click", async () => {
  state.stopped = true;
  if (state.job) await api(state.job.links.job, { method: "DELETE" }).catch(() => {});
});

async function restore(task, options, picture) {
  const parts = { picture: picture.file };
  const wanted = { ...options };
  if (task.uploads.some((upload) => upload.name === "mask")) {
    parts.mask = await maskOf(picture);
    if (picture.maskScale < 1 && parts.mask !== picture.maskFile) wanted.fit_mask = true;
  }
  parts.options = JSON.stringify(wanted);
  showRunning(picture, "Sending the picture …");
  const job = await placed(task, parts, picture);
  if (!job) return;
  const ended = await followed(job, picture);
  if (ended.state === "cancelled") return;
  if (ended.state === "failed") throw new Refused(400, ended.error);
  await fetched(ended, task, picture);
}

async function placed(task, parts, picture) {
  while (!state.stopped) {
    try {
      const path = `api/restore/${task.name}?wait=false`;
      return await (await api(path, { method: "POST", body: form(parts) })).json();
    } catch (error) {
      if (error.status !== 429) throw error;
      showRunning(picture, `${error.message} …`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(10, error.wait || 5)));
    }
  }
  return null;
}

async function followed(job, picture) {
  let latest = job;
  let preview = "";
  state.job = job;
  for (let tries = 0; tries < 5; tries += 1) {
    try {
      for await (const told of events(job.links.job)) {
        latest = told;
        tries = 0;
        showProgress(told, picture);
        if (told.links.preview && told.links.preview !== preview) {
          preview = told.links.preview;
          showPreview(preview);
        }
      }
    } catch (error) {
      if (error.status && error.status !== 503) throw error;
    }
    if (["done", "failed", "cancelled"].includes(latest.state)) break;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  state.job = null;
  if (!["done", "failed", "cancelled"].includes(latest.state)) {
    throw new Refused(0, "The connection to the server was lost.");
  }
  return latest;
}

async function fetched(job, task, picture) {
  const files = [];
  for (const file of job.files) {
    const blob = await (await api(file.link)).blob();
    const view = file.view ? await (await api(file.view)).blob() : blob;
    const isShown = file.type.startsWith("image/");
    files.push({
      name: namedLike(picture.name, file, task),
      kind: kindOf(file.name),
      blob,
      url: URL.createObjectURL(blob),
      view: isShown ? URL.createObjectURL(view) : null,
    });
  }
  api(job.links.job, { method: "DELETE" }).catch(() => {}); // it is all here now
  const result = { name: picture.name, before: picture.url, files, job };
  state.results.push(result);
  showResult(result);
}

function namedLike(name, file, task) {
  // the suffix is that of the picture where both mean the same format, as .jpg and .jpeg do
  const formats = [/\.jpe?g$|\.jpe$|\.jfif$/i, /\.tiff?$/i];
  const known = formats.find((format) => format.test(name) && format.test(file.name));
  const made = file.name.replace(/^restored/, `${stem(name)}-${task.name}`);
  return known ? made.replace(known, name.match(known)[0]) : made;
}

function kindOf(name) {
  const sample = name.match(/\.sample(\d+)\./);
  if (sample) return `Sample ${Number(sample[1])}`;
  if (name.includes(".std.")) return "Standard deviation of the samples";
  if (name.endsWith(".npy")) return "Kernel";
  return "Restored";
}

function forget() {
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

// ---------------------------------------------------------------- progress and results

function showRunning(picture, text) {
  $("output").hidden = false;
  $("running").hidden = false;
  $("preview").hidden = true;
  $("progress").removeAttribute("value");
  $("status").textContent = `${picture.name}: ${text}`;
}

function showProgress(told, picture) {
  const many = state.pictures.length > 1
    ? ` (picture ${state.results.length + 1} of ${state.pictures.length})` : "";
  if (told.state === "queued") {
    showRunning(picture, told.before ? `${told.before} before it in the queue` : "next in the queue");
  } else if (told.steps) {
    $("progress").value = told.step / told.steps;
    const left = told.seconds_left > 0 ? `, ${duration(told.seconds_left)} left` : "";
    $("status").textContent = `${picture.name}${many}: step ${told.step} of ${told.steps}${left}`;
  } else $("status").textContent = `${picture.name}${many}: beginning …`;
}

async function showPreview(path) {
  try {
    const blob = await (await api(path)).blob();
    URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(blob);
    $("preview").hidden = false;
  } catch { /* the job may be over */ }
}

function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

let current = null;

function showResult(result) {
  current = result;
  $("done").hidden = false;
  const views = result.files.filter((file) => file.view);
  $("which").replaceChildren(...views.map((file) => made("option", { value: file.name }, file.kind)));
  $("before").src = result.before;
  show(views[0]);
  $("words").textContent = result.job.words;
  $("notes").replaceChildren(...(result.job.report.notes ?? []).map((note) => made("li", {}, note)));
  $("downloads").replaceChildren(...result.files.map((file, index) => {
    const text = index ? file.kind : `Download ${file.name} (${size(file.blob.size)})`;
    return made("a", { class: "button", href: file.url, download: file.name }, text);
  }));
  const shown = ["method", "steps", "samples", "seed", "noise", "consistency", "seconds", "model",
    "device", "operator"];
  $("report").replaceChildren(...shown.flatMap((name) => {
    const value = result.job.report[name];
    const text = typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : value;
    return [made("dt", {}, named(name)), made("dd", {}, String(text))];
  }));
}

function show(file) {
  $("after").src = file.view;
  const alone = file.kind.startsWith("Standard");
  $("before-half").hidden = $("line").hidden = alone;
  $("slider").disabled = alone;
  zoom();
  slide();
}

function zoom() {
  const factor = Number($("zoom").value);
  $("zoom-shown").textContent = factor ? `${factor}×` : "fit";
  const { naturalWidth: width, naturalHeight: height } = $("after");
  const compare = $("compare");
  if (!width) return;
  compare.style.aspectRatio = `${width} / ${height}`;
  compare.style.width = factor ? `${width * factor}px` : `min(100%, ${(75 * width) / height}vh)`;
  $("after").style.imageRendering = factor > 1 ? "pixelated" : "auto";
}

function slide() {
  const part = $("slider").value;
  $("before-half").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  $("line").style.left = `${part}%`;
}

$("after").addEventListener("load", zoom);
$("zoom").addEventListener("input", zoom);
$("slider").addEventListener("input", slide);
$("which").addEventListener("change", () => {
  show(current.files.find((file) => file.name === $("which").value));
});
$("compare").addEventListener("pointermove", (event) => {
  if (!(event.buttons & 1)) return;
  const box = $("compare").getBoundingClientRect();
  $("slider").value = (100 * (event.clientX - box.left)) / box.width;
  slide();
});
$("compare").addEventListener("dragstart", (event) => event.preventDefault());

function showList() {
  $("list").hidden = state.results.length < 2;
  $("results").replaceChildren(...state.results.map((result) => {
    const line = made("li");
    if (result.error) line.append(made("span", {}, `${result.name}: ${result.error}`));
    else {
      const pick = made("button", { type: "button" }, result.name);
      pick.addEventListener("click", () => showResult(result));
      const file = result.files[0];
      line.append(pick, made("a", { class: "button", href: file.url, download: file.name },
        "Download"));
    }
    return line;
  }));
  $("zip").hidden = state.busy || state.results.filter((result) => result.files).length < 2;
}

// ---------------------------------------------------------------- a ZIP of all results

$("zip").addEventListener("click", async () => {
  const files = state.results.flatMap((result) => result.files ?? []);
  saved(await zipped(files), `restored-${state.task.name}.zip`);
});

function saved(blob, name) {
  const link = made("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function record(numbers) {
  // numbers as [value, bytes], little-endian
  const bytes = [];
  for (const [value, count] of numbers) {
    for (let at = 0; at < count; at += 1) bytes.push(Math.floor(value / 256 ** at) & 255);
  }
  return Uint8Array.from(bytes);
}

async function zipped(files) {
  // without compression, which pictures have already (APPNOTE.TXT of PKWARE, 4.3)
  const parts = [];
  const entries = [];
  const taken = new Set();
  let offset = 0;
  for (const file of files) {
    const data = new Uint8Array(await file.blob.arrayBuffer());
    let name = file.name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").replace(/^\.+/, "_");
    for (let number = 2; taken.has(name.toLowerCase()); number += 1) {
      name = file.name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").replace(/(\.[^.]*)$/, `-${number}$1`);
    }
    taken.add(name.toLowerCase());
    const text = new TextEncoder().encode(name);
    const shared = [
      [20, 2], [0x0800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(data), 4], [data.length, 4],
      [data.length, 4], [text.length, 2], [0, 2],
    ];
    const head = record([[0x04034b50, 4], ...shared]);
    parts.push(head, text, data);
    entries.push(
      record([[0x02014b50, 4], [20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]),
      text,
    );
    offset += head.length + text.length + data.length;
  }
  const length = entries.reduce((sum, one) => sum + one.length, 0);
  const count = entries.length / 2;
  const end = record([
    [0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [offset, 4], [0, 2],
  ]);
  return new Blob([...parts, ...entries, end], { type: "application/zip" });
}

// ---------------------------------------------------------------- begin

// `restore serve --open` hands the token over behind #, which browsers do not send
if (location.hash.length > 1) {
  state.token = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
} else state.token = sessionStorage.getItem("token") ?? "";
begin();
