// Restoring: one picture after the other is sent, followed and fetched.

import { $, duration, fitted, say, showSide, state, tell } from "./shared.js";
import { api, events, form, Refused } from "./server.js";
import { given, givenFiles } from "./options.js";
import { isMasked, isMaskNeeded, maskOf, maskWord } from "./mask.js";
import { reading } from "./pictures.js";
import { fileOf, forget, showList, showResult } from "./result.js";

const OVER = ["done", "failed", "cancelled"];

$("options").addEventListener("submit", async (event) => {
  event.preventDefault();
  await reading;
  if (state.busy) return;
  const missing = whatIsMissing();
  tell(missing);
  if (missing) return;

  forget();
  begin(true);
  const { task } = state;
  const order = { task, options: given(), files: givenFiles(), needsMask: isMaskNeeded() };
  for (const picture of [...state.pictures]) {
    if (state.stopped) break;
    try {
      await restore(order, picture);
    } catch (error) {
      state.results.push({ name: picture.name, error: error.message });
      tell(`${picture.name}: ${error.message}`);
      if (error.status === 401) break;
    }
    showList();
  }
  begin(false);
  showList();
  finish();
});

function whatIsMissing() {
  if (!state.pictures.length) return "Choose a picture first.";
  const bare = isMaskNeeded() ? state.pictures.find((picture) => !isMasked(picture)) : null;
  if (!bare) return "";
  state.chosen = bare;
  $("show-input").click();
  return `${bare.name}: paint over what is to be filled, or take a mask from a file.`;
}

function begin(busy) {
  Object.assign(state, { busy, stopped: false });
  $("start").disabled = busy;
  $("cancel").hidden = !busy;
  $("running").hidden = !busy;
  if (busy) showSide("output");
  if (busy && matchMedia("(max-width: 60rem)").matches) $("desk").scrollIntoView();
}

function finish() {
  document.title = "restore";
  const done = state.results.filter((result) => result.files).length;
  say(done ? `Done: ${done} of ${state.pictures.length}` : "Ended without a result");
  showSide(done ? "output" : "input");
}

$("cancel").addEventListener("click", async () => {
  state.stopped = true;
  if (state.job) await api(state.job.links.job, { method: "DELETE" }).catch(() => {});
});

async function restore({ task, options, files, needsMask }, picture) {
  const parts = { picture: picture.file, ...files };
  const wanted = { ...options };
  if (needsMask && picture.finds) wanted.mask = maskWord(picture);
  else if (needsMask) {
    parts.mask = await maskOf(picture);
    if (picture.maskScale < 1 && parts.mask !== picture.maskFile) wanted.fit_mask = true;
  }
  parts.options = JSON.stringify(wanted);
  showWaiting(picture, "Sending the picture …");
  say(`Restoring ${picture.name}`);

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
      if (!error.wait) throw error; // a full queue, or a busy server, says when to come again
      showWaiting(picture, `${error.message} …`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(10, error.wait || 5)));
    }
  }
  return null;
}

async function followed(job, picture) {
  let latest = job;
  let preview = "";
  state.job = job;
  if (state.stopped) $("cancel").click(); // while it was sent
  for (let tries = 0; tries < 5; tries += 1) {
    try {
      for await (const told of events(job.links.job)) {
        latest = told;
        tries = 0;
        showProgress(told, picture);
        if (told.links.preview && told.links.preview !== preview) {
          preview = told.links.preview;
          showPreview(preview, picture);
        }
      }
    } catch (error) {
      if (error.status && error.status !== 503) throw error;
    }
    if (OVER.includes(latest.state)) break;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  state.job = null;
  if (!OVER.includes(latest.state)) throw new Refused(0, "The connection to the server was lost.");
  return latest;
}

async function fetched(job, task, picture) {
  const files = [];
  for (const file of job.files) {
    const blob = await (await api(file.link)).blob();
    const view = file.view ? await (await api(file.view)).blob() : blob;
    files.push(fileOf(file, blob, view, picture, task));
  }
  api(job.links.job, { method: "DELETE" }).catch(() => {}); // it is all here now
  const result = { name: picture.name, before: picture.url, files, job };
  state.results.push(result);
  showResult(result);
}

// ---------------------------------------------------------------- progress

function showWaiting(picture, text) {
  $("running").hidden = false;
  $("preview").hidden = true;
  $("progress").removeAttribute("value");
  $("status").textContent = `${picture.name}: ${text}`;
}

function showProgress(told, picture) {
  const many = state.pictures.length > 1
    ? ` (picture ${state.results.length + 1} of ${state.pictures.length})` : "";
  const status = $("status");
  if (told.state === "queued") {
    showWaiting(picture, told.before ? `${told.before} before it in the queue` : "next in the queue");
  } else if (told.steps) {
    $("progress").value = told.step / told.steps;
    document.title = `${Math.round((100 * told.step) / told.steps)} % – restore`;
    const left = told.seconds_left > 0 ? `, ${duration(told.seconds_left)} left` : "";
    status.textContent = `${picture.name}${many}: step ${told.step} of ${told.steps}${left}`;
  } else status.textContent = `${picture.name}${many}: beginning …`;
}

async function showPreview(path, { facts }) {
  try {
    const blob = await (await api(path)).blob();
    URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(blob);
    $("preview").style.width = fitted(facts.width, facts.height);
    $("preview").hidden = false;
  } catch { /* the job may be over */ }
}
