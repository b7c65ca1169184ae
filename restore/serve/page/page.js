// The page of `restore serve`: the tabs, the token, and the start. Everything that it shows comes
// from the API beside it.

import { $, made, showSide, state, tell } from "./shared.js";
import { api, useToken } from "./server.js";
import { showCommand, showOptions } from "./options.js";
import { showPictures } from "./pictures.js";
import "./run.js";

function choose(task) {
  state.task = task;
  state.values[task.name] ??= {};
  state.files[task.name] ??= {};
  for (const tab of $("tabs").children) {
    const is = tab.id === `tab-${task.name}`;
    tab.setAttribute("aria-selected", is);
    tab.tabIndex = is ? 0 : -1;
    if (is) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  $("work").setAttribute("aria-labelledby", `tab-${task.name}`);
  $("about").textContent = task.about.replace(`${task.title}: `, "").replace(/^./, (a) => a.toUpperCase());
  showOptions();
  tell("");
  showPictures();
  if (!state.busy) showSide("input");
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
  const last = state.tasks.length - 1;
  const at = state.tasks.indexOf(state.task);
  const to = {
    ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(state.tasks[to]);
  $(`tab-${state.task.name}`).focus();
});

$("show-input").addEventListener("click", () => { showSide("input"); showPictures(); });
$("show-output").addEventListener("click", () => showSide("output"));
document.addEventListener("changed", showCommand);
window.addEventListener("beforeunload", (event) => { if (state.busy) event.preventDefault(); });

// ---------------------------------------------------------------- token and start

let given = "";

document.addEventListener("token", () => {
  $("token-text").textContent = given
    ? "This is not the token that the server was started with."
    : "This server asks for the token that it was started with.";
  $("work").hidden = true;
  $("ask-token").hidden = false;
  $("token").focus();
});

$("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  begin($("token").value.trim());
});

async function begin(token) {
  given = token;
  useToken(token);
  let health;
  try {
    Object.assign(state, await (await api("api/tasks")).json());
    health = await (await api("api/health")).json();
  } catch (error) {
    $("lost").hidden = error.status === 401;
    $("lost").textContent = error.message;
    return;
  }
  sessionStorage.setItem("token", token);
  $("lost").hidden = $("ask-token").hidden = true;
  $("work").hidden = false;
  const { bytes, pixels } = state.limits;
  $("limits").textContent =
    `At most ${Math.round(pixels / 1e6)} million pixels and ${Math.round(bytes / 1e6)} MB each.`;
  $("version").textContent = `restore ${health.version}`;
  showTabs();
  choose(state.tasks[0]);
  document.dispatchEvent(new Event("known"));
}

// `restore serve --open` hands the token over behind #, which browsers do not send
if (location.hash.length > 1) {
  const token = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  begin(token);
} else begin(sessionStorage.getItem("token") ?? "");
