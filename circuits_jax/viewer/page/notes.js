// People's own names for nodes: kept while the page is open, saved to and loaded from a JSON file.

const NOTES_FORMAT = "circuits_jax.annotations";
const MAX_NOTE = 300;

/** Reads a file's text into {circuit key: {node: note}}; throws an Error in words if it is something else. */
function parseNotes(text) {
  let read;
  try {
    read = JSON.parse(text);
  } catch {
    throw new Error("this is not a JSON file");
  }
  if (read?.format !== NOTES_FORMAT || read.version !== 1 || typeof read.circuits !== "object" || read.circuits === null) {
    throw new Error(`this is not an annotations file of version 1 (no format "${NOTES_FORMAT}")`);
  }
  const notes = {};
  for (const [key, nodes] of Object.entries(read.circuits)) {
    const known = Object.entries(nodes ?? {}).filter(([, note]) => typeof note === "string" && note.trim());
    notes[key] = Object.fromEntries(known.map(([id, note]) => [id, note.slice(0, MAX_NOTE)]));
  }
  return notes;
}

/** What a file says of nodes, beside what was said before. */
function mergeNotes(notes, loaded) {
  const keys = [...new Set([...Object.keys(notes), ...Object.keys(loaded)])];
  return Object.fromEntries(keys.map((key) => [key, { ...notes[key], ...loaded[key] }]));
}

function writeNotes(notes) {
  return JSON.stringify({ format: NOTES_FORMAT, version: 1, circuits: notes }, null, 1) + "\n";
}

const NOTE_SHOWN = 24, NOTE_LETTER = 7; // letters of a note on the graph, and the room of one

/** Puts notes beside their nodes on the graph. */
function showNotes(graph, notes) {
  const nodes = [...graph.vertices.values()].filter((v) => v.kind === "node");
  for (const vertex of nodes) {
    vertex.note = showUnseen(notes?.[vertex.id] ?? "").trim();
    vertex.label.firstChild.textContent = clip(vertex.note, NOTE_SHOWN) || String(vertex.index);
    vertex.label.classList.toggle("given", Boolean(vertex.note));
    vertex.element.setAttribute("aria-label", (vertex.note ? vertex.note + ": " : "") + nodeWords(vertex));
  }
  for (const row of groupBy(nodes.filter((v) => v.note), (v) => v.y).values()) setApart(row);
}

/** Notes of one row stand above their nodes, or below where they would run into the one before. */
function setApart(row) {
  let above = -Infinity, below = -Infinity;
  for (const { x, label } of row.sort(byKeys((v) => v.x))) {
    const half = (label.textContent.length * NOTE_LETTER) / 2;
    const low = x - half < above && x - half >= below;
    if (low) below = x + half;
    else above = x + half;
    label.classList.toggle("low", low);
  }
}

/** The note of one node, to be edited; `changed(note)` is called with every keystroke. */
function noteEditor(vertex, note, changed) {
  const field = h("input", {
    type: "text", maxlength: MAX_NOTE, placeholder: "Your name for this node", "aria-label": "Your name for " + vertex.name,
    oninput: () => changed(field.value),
  });
  field.value = note ?? "";
  return h("div", { class: "note-editor" }, field);
}

/** Buttons that save and load all notes of the page: `read()` gives them, `saved()` is told, `loaded(notes)` says what came of them. */
function notesButtons(read, saved, loaded) {
  const message = h("span", { class: "quiet", role: "status" });
  const file = h("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    try {
      message.textContent = loaded(parseNotes(await chosen.text()));
    } catch (error) {
      message.textContent = `${chosen.name}: ${error.message}`;
    }
  } });
  return h("span", { class: "notes-buttons" },
    h("button", { type: "button", class: "save-notes", onclick: () => { saveFile("annotations.json", "application/json", writeNotes(read())); saved(); } }, "save notes"),
    h("button", { type: "button", onclick: () => file.click() }, "load notes"), file, message);
}

function saveFile(name, type, content) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
