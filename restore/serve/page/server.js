// Requests to the API beside the page.

let token = "";

export function useToken(text) {
  token = text;
}

export class Refused extends Error {
  constructor(status, text, wait) {
    super(text);
    this.status = status;
    this.wait = wait;
  }
}

export async function api(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  const text = await answer.json().then((told) => told.error, () => answer.statusText);
  if (answer.status === 401) document.dispatchEvent(new Event("token"));
  throw new Refused(answer.status, text, Number(answer.headers.get("Retry-After")));
}

export function form(parts) {
  const body = new FormData();
  for (const [name, value] of Object.entries(parts)) {
    if (value instanceof Blob) body.append(name, value, name);
    else body.append(name, value);
  }
  return body;
}

// The name that a file has on this machine stays here: the server gets the content alone.
export async function viewed(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error("it cannot be read; drop files, not folders");
  }
  return api("api/view", { method: "POST", body: form({ picture: file }) });
}

export async function* events(path) {
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
