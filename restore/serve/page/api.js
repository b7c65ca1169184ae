"use strict";
// Shows openapi.json: every address with its parts and options.

const made = (tag, text = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

function table(properties, required) {
  const list = made("dl");
  for (const [name, one] of Object.entries(properties)) {
    const type = one.type ?? one.anyOf?.map((kind) => kind.type).join(" or ") ?? "";
    const value = one.default === undefined ? "" : ` Default: ${one.default}.`;
    const needed = required.includes(name) ? " Needed." : "";
    const kind = one.contentMediaType ? "file" : type;
    list.append(made("dt", name), made("dd", `(${kind}) ${one.description ?? ""}${value}${needed}`));
    if (one.properties) {
      const inner = made("dd");
      inner.append(table(one.properties, one.required ?? []));
      list.append(made("dt"), inner);
    }
  }
  return list;
}

async function begin() {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("openapi.json", { headers });
  if (!answer.ok) {
    document.getElementById("message").textContent = (await answer.json()).error;
    return;
  }
  const told = await answer.json();
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const [method, call] of Object.entries(methods)) {
      const part = made("details");
      const summary = made("summary");
      summary.append(made("code", `${method.toUpperCase()} ${path}`), ` ${call.summary ?? ""}`);
      part.append(summary);
      if (call.description) part.append(made("p", call.description));
      const parameters = (call.parameters ?? []).map((one) => [
        one.name, { ...one.schema, description: `in the ${one.in}.` },
      ]);
      if (parameters.length) part.append(table(Object.fromEntries(parameters), []));
      const schema = call.requestBody?.content?.["multipart/form-data"]?.schema;
      if (schema) part.append(table(schema.properties, schema.required ?? []));
      document.getElementById("calls").append(part);
    }
  }
}

begin();
