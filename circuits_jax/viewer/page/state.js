// What is shown, as an address: #task=<circuit>&node=<vertex>&... ; a link reopens exactly this view.  The truth is
// `state.now`; the address mirrors it, since an embedded page may not be allowed to change its own.

const STATE_DEFAULTS = {
  task: "", // key of the circuit
  node: "", // selected vertex
  to: "", // end of the paths listed from it
  prompt: "0A", // task prompt of the bench
  text: "", // typed prompt, instead of it
  at: "", // chosen position of the prompt; the last one when empty
  set: "", // held nodes: "node=value@position,..."
  edges: "0", // weakest edge shown, as a share of the strongest
  nodes: "0", // least important node shown, likewise
  paint: "", // what colours nodes: importance, if it was measured, or value
  of: "", // whose values the node pane shows: full or circuit
  open: "", // expanded groups of an aggregated view
  view: "", // camera: x,y,scale
  with: page.comparison && page.circuits.length > 1 ? page.circuits[1].key : "", // circuit to compare with
  theme: "", // light or dark; the system's when empty
  sort: "task", // the index's column, "-" before it when the greatest comes first
  filter: "", // words that the index's rows must hold
};

function parseState(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  return Object.fromEntries(Object.entries(STATE_DEFAULTS).map(([key, usual]) => [key, parts.get(key) ?? usual]));
}

/** The address of `now` with `changes`; what is as usual is left out. */
function stateHash(now, changes = {}) {
  const next = { ...now, ...changes };
  const parts = Object.keys(STATE_DEFAULTS).filter((key) => next[key] !== STATE_DEFAULTS[key]);
  return "#" + new URLSearchParams(parts.map((key) => [key, next[key]]));
}

/** Keeps the state; `show(now, before)` runs after every change. */
function makeState(show) {
  const state = { now: parseState(location.hash), go, href: (changes) => stateHash(state.now, changes) };
  const mirror = makeMirror();
  const become = (next) => {
    const before = state.now;
    state.now = next;
    show(next, before);
  };
  function go(changes, { replace = false } = {}) {
    const hash = stateHash(state.now, changes);
    if (hash === stateHash(state.now)) return;
    mirror.write(hash, replace);
    become(parseState(hash));
  }
  const follow = () => {
    mirror.drop();
    if (stateHash(parseState(location.hash)) !== stateHash(state.now)) become(parseState(location.hash));
  };
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(parseState(link.getAttribute("href")));
  });
  return state;
}

const MIRROR_MS = 150;

/** Writes the address: at once, but while a slider moves only so often, since browsers ignore a page that does more. */
function makeMirror() {
  let last = 0, timer = 0, waiting = null;
  const put = (method, hash) => {
    last = Date.now();
    try {
      history[method](null, "", hash);
    } catch (error) {
      if (error.name !== "SecurityError") throw error; // an embedded page has no address of its own
    }
  };
  const drop = () => { clearTimeout(timer); waiting = null; };
  const flush = () => { const hash = waiting; drop(); if (hash !== null) put("replaceState", hash); };
  const write = (hash, replace) => {
    if (!replace) { flush(); return put("pushState", hash); }
    drop();
    const wait = last + MIRROR_MS - Date.now();
    if (wait <= 0) return put("replaceState", hash);
    waiting = hash;
    timer = setTimeout(flush, wait);
    return undefined;
  };
  return { write, drop };
}
