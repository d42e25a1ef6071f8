// The dashboard: what the API of this node tells, and nothing else. Text is only ever set as text:
// ids and metadata are other people's words.

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const dialog = document.getElementById("dialog");
const others = document.createElement("p");
others.id = "others";
banner.after(others);
const STALE = 5000;
const PHASES = ["offer", "freeze", "wait", "transfer", "open"];

let session = { read: false, act: false, states: false };
let view = { name: "", stop() {} };
let heardAt = 0;
let trouble = "";
let token = null;
try { token = sessionStorage.getItem("actix-hub-token"); } catch { /* it is asked for in each tab */ }
/** What the pointer is pressed on: it is not drawn anew meanwhile, or the click would be lost. */
let pressed = null;
addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => setTimeout(() => { pressed = null; }), true);

// ---- making elements ---------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const space = ["svg", "g", "line", "circle", "path", "text", "title", "desc"].includes(tag) && attributes.svg !== false;
  const element = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number, or that it is not known: never 0 instead. */
function number(value, digits = 0) {
  if (value === null || value === undefined) {
    return make("span", { class: "unknown", title: "not known", "aria-label": "not known" }, "?");
  }
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Bytes, as people read them. */
function size(bytes) {
  if (bytes === null || bytes === undefined) return number(bytes);
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(Math.floor(Math.log2(bytes) / 10), 4);
  return `${(bytes / 1024 ** power).toFixed(1)} ${["KiB", "MiB", "GiB", "TiB"][power - 1]}`;
}

function span(ms) {
  if (ms === null || ms === undefined) return "?";
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(1)} ms`;
  return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : long(ms / 1000);
}

function long(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

const clock = (text) => new Date(text).toLocaleTimeString("en-GB");
const state = (name) => make("span", { class: `state ${name}` }, name);
const childLink = (id) => make("a", { href: `#/child/${encodeURIComponent(id)}` }, id);

function table(caption, columns, rows, cards = true) {
  const head = make("tr", {}, columns.map(([name, kind]) => make("th", { scope: "col", class: kind }, name)));
  const body = rows.map((cells) => make("tr", {}, cells.map((cell, at) =>
    make("td", { class: columns[at][1], "data-name": columns[at][0] }, cell))));
  return make("div", { class: "scroll" },
    make("table", { class: cards ? "cards" : "" }, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, body)));
}

/** A list that is here as a whole, in the order of one column: of its cells, or of what `by` says. A
 * second click turns it round. */
function sorted(caption, columns, items, order, redraw) {
  const chosen = columns.find((column) => column.name === order.name);
  if (chosen?.by) {
    const compare = (a, b) => {
      const [x, y] = [chosen.by(a), chosen.by(b)];
      // What is not known comes last, whichever way.
      if (x === null || x === undefined || y === null || y === undefined) return (x ?? null) === (y ?? null) ? 0 : x === null || x === undefined ? 1 : -1;
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * (order.down ? -1 : 1);
    };
    items = items.toSorted(compare);
  }
  const box = table(caption, columns.map((column) => [column.name, column.kind]), items.map((item) => columns.map((column) => column.cell(item))));
  box.querySelectorAll("th").forEach((head, at) => {
    const { name, by } = columns[at];
    if (!by) return;
    const here = order.name === name;
    if (here) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    head.replaceChildren(button(name, () => {
      Object.assign(order, { name, down: here && !order.down });
      redraw();
    }, { class: "sort", "data-key": `sort ${name}` }));
  });
  return box;
}

function facts(pairs) {
  return make("dl", { class: "facts" }, pairs.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value ?? "–")]));
}

/** Draws a part anew; what has the focus keeps it, and what was scrolled stays so. A part whose text
 * is selected waits, and says so: the text is wanted as it is. */
function refill(box, ...content) {
  if (pressed && box.contains(pressed)) return;
  const selection = getSelection();
  const held = selection !== null && !selection.isCollapsed && box.contains(selection.anchorNode);
  box.classList.toggle("held", held);
  if (held) return;
  const focused = box.contains(document.activeElement) ? document.activeElement : null;
  const keyOf = (element) => element.dataset.key ?? element.getAttribute("href");
  const key = focused && keyOf(focused);
  const scrolled = [...box.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
  box.replaceChildren(...content);
  [...box.querySelectorAll(".scroll")].forEach((part, at) => { part.scrollLeft = scrolled[at] ?? 0; });
  if (key) [...box.querySelectorAll("a, button")].find((part) => keyOf(part) === key)?.focus({ preventScroll: true });
}

// ---- asking ------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.title = problem.title || `status ${status}`;
  }
}

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers), signal: AbortSignal.timeout(35000) });
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? "this node did not answer in 35 s" : "this node does not answer");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  if (response.status === 401) signIn();
  throw new Refused(response.status, body ?? {});
}

function act(method, path, body, dry) {
  const url = dry ? `${path}?dry_run=true` : path;
  const more = { "X-Actix-Hub": "1" };
  if (body) more["Content-Type"] = "application/json";
  return ask(url, { method, headers: more, body: body && JSON.stringify(body) });
}

const query = (pairs) => new URLSearchParams(Object.entries(pairs).filter(([, value]) => value)).toString();

// ---- knowing and not knowing -------------------------------------------------------------------

function heard() {
  others.replaceChildren();
  heardAt = Date.now();
  trouble = "";
  judge();
}

function unheard(why) {
  trouble = why;
  judge();
}

/** Says so when what is shown is old. */
function judge() {
  const since = heardAt && new Date(heardAt).toLocaleTimeString("en-GB");
  const old = heardAt && Date.now() - heardAt > STALE;
  const lost = trouble !== "" || old;
  main.classList.toggle("stale", Boolean(lost));
  banner.hidden = !lost;
  const text = `${trouble || "nothing was heard"}; ${since ? `what is shown is from ${since}` : "nothing is known"}`;
  if (lost && banner.textContent !== text) banner.textContent = text;
  offer(Boolean(lost) && trouble.startsWith("this node"));
}

/** The nodes, as they were seen last: the others are offered when this one is gone. */
let nodesSeen = [];

/** Where another node may serve this page: on its host, at the same port. */
function pageOf(node) {
  for (const address of node.addresses) {
    const [, kind, host] = address.split("/");
    if (!["ip4", "ip6", "dns", "dns4", "dns6"].includes(kind)) continue;
    const name = kind === "ip6" ? `[${host}]` : host;
    const isHere = name === location.hostname || /^(127\.|\[::1\])/.test(name);
    if (!isHere) return `${location.protocol}//${name}${location.port && `:${location.port}`}${location.pathname}`;
  }
  return null;
}

function offer(isGone) {
  const nodes = nodesSeen.filter((node) => !node.is_self && isMember(node));
  others.hidden = !isGone || !nodes.length;
  if (others.hidden || others.textContent) return;
  const named = nodes.map((node, at) => {
    const page = pageOf(node);
    return [at ? ", " : "", page ? make("a", { href: page }, node.name) : node.name];
  });
  others.replaceChildren("The other nodes, if they serve this page at the same port: ", ...named.flat());
}

function notice(text) {
  document.getElementById("notice").textContent = text;
}

function signIn() {
  document.getElementById("sign-in-text").textContent = token ? "This token was not accepted." : "";
  document.getElementById("sign-in").hidden = false;
  main.hidden = true;
  view.stop();
  document.getElementById("token").focus();
}

document.getElementById("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("token");
  if (!/^[!-~]{16,512}$/.test(field.value)) {
    document.getElementById("sign-in-text").textContent = "A token has 16 to 512 visible ASCII characters.";
    return;
  }
  token = field.value;
  try { sessionStorage.setItem("actix-hub-token", token); } catch { /* it is asked for again */ }
  field.value = "";
  begin().then(() => { if (!main.hidden) main.focus(); });
});

/** What a view reads: what it shows is new only when all of it came. */
function watched(work) {
  return async () => {
    const mine = view;
    try {
      await work();
      if (mine === view) heard();
    } catch (error) {
      if (mine === view && error.status !== 401) unheard(error.status === 403 ? `not allowed any more: ${error.message}` : error.message);
    }
  };
}

/** Repeats while the view is shown and the page is seen; one at a time. */
function every(pause, work) {
  let timer = null;
  let stopped = false;
  const round = async () => {
    if (!document.hidden) await work();
    if (!stopped) timer = setTimeout(round, pause);
  };
  round();
  return () => { stopped = true; clearTimeout(timer); };
}

setInterval(judge, 1000);

// ---- actions: first what they would do, then the question, then what they did -------------------

let dialogs = 0;
let busy = false;
dialog.addEventListener("cancel", (event) => { if (busy) event.preventDefault(); });
// What opened it may be gone by now.
dialog.addEventListener("close", () => setTimeout(catchFocus));

/** What had the focus may be gone, or hidden: it stays on the page. */
function catchFocus() {
  if (document.activeElement === document.body || document.activeElement?.closest("[hidden]")) main.focus();
}

/** Opens the dialog with nothing but words. */
function tell(title, words) {
  confirmAction(title, [], null);
  document.getElementById("dialog-text").textContent = words;
}

/** Prepares an action; what goes wrong meanwhile is said in its dialog. */
const prepare = (title, work) => work().catch((error) => tell(title, `${error.title ?? "It could not be prepared"}: ${error.message}`));

/** `follow` shows in a box of the dialog what comes after, as long as `isShown` says so. */
function confirmAction(title, fields, request, follow = null) {
  const [body, text, go, cancel] = ["body", "text", "do", "cancel"].map((part) => document.getElementById(`dialog-${part}`));
  document.getElementById("dialog-title").textContent = title;
  body.replaceChildren(...fields);
  go.textContent = title.length > 40 ? `${title.slice(0, 39)}…` : title;
  // Not disabled, as that would take the focus away and swallow a click.
  const ready = (is) => go.setAttribute("aria-disabled", String(!is));
  ready(false);
  go.hidden = !request;
  const me = ++dialogs;
  let asked = 0;
  busy = false;
  cancel.disabled = false;
  const say = (words, kind = "") => {
    if (me !== dialogs) return;
    text.textContent = words;
    text.className = kind;
  };
  const tryIt = async () => {
    if (busy || !request) return;
    const mine = ++asked;
    say("Asking what it would do …");
    ready(false);
    try {
      const would = await request(true);
      if (mine !== asked || me !== dialogs) return;
      say(would.text);
      ready(true);
    } catch (error) {
      if (mine === asked) say(`${error.title ?? "It could not be asked"}: ${error.message}`, "error");
    }
  };
  go.onclick = async () => {
    if (busy) return;
    if (go.getAttribute("aria-disabled") === "true") return notice("Wait until it is said what would be done.");
    busy = true;
    asked += 1;
    ready(false);
    cancel.disabled = true;
    for (const field of fields) field.querySelectorAll("input, select").forEach((part) => { part.disabled = true; });
    say("Under way …");
    try {
      const done = await request(false);
      say(done.text);
      notice(done.text);
      if (follow && me === dialogs) {
        const box = make("div", { class: "progress" });
        body.append(box);
        follow(box, () => me === dialogs && dialog.open, say);
      }
    } catch (error) {
      // Whoever was not answered does not know.
      const unsure = error instanceof Refused ? "" : "; it may have been done all the same";
      say(`${error.title ?? "Failed"}: ${error.message}${unsure}`, "error");
      notice(`${error.message}${unsure}`);
    }
    view.refresh?.();
    if (me !== dialogs) return;
    busy = false;
    cancel.disabled = false;
    cancel.textContent = "Close";
    cancel.focus();
  };
  cancel.textContent = request ? "Cancel" : "Close";
  cancel.onclick = () => dialog.close();
  let typing = null;
  for (const field of fields) {
    field.addEventListener("input", () => {
      ready(false);
      clearTimeout(typing);
      typing = setTimeout(tryIt, 250);
    });
  }
  if (!dialog.open) dialog.showModal();
  tryIt();
}

function button(text, action, more = {}) {
  return make("button", { type: "button", onclick: action, ...more }, text);
}

const noRight = () => make("p", { class: "quiet" }, "This client may read, not act.");

const migrateDialog = (child, from) => prepare(`Migrate ${child}`, async () => {
  const nodes = (await ask("nodes?limit=1000")).items.filter((node) => node.id !== from && !["leaving", "joining"].includes(node.state) && !node.draining);
  if (!nodes.length) return tell(`Migrate ${child}`, "There is no other node.");
  const to = make("select", {}, nodes.map((node) => make("option", { value: node.id }, `${node.name} (${number(node.children)} children)`)));
  const forced = make("input", { type: "checkbox" });
  confirmAction(`Migrate ${child}`, [
    make("label", {}, "To", to),
    make("label", { class: "inline" }, forced, "cut off handlers that run on after retention"),
  ], (dry) => act("POST", `children/${encodeURIComponent(child)}/migrate`, { to: to.value, forced: forced.checked }, dry));
});

function releaseDialog(child) {
  confirmAction(`Release ${child}`, [], (dry) => act("POST", `children/${encodeURIComponent(child)}/release`, null, dry));
}

function stopDialog(child) {
  confirmAction(`Stop ${child}`, [], (dry) => act("DELETE", `children/${encodeURIComponent(child)}`, null, dry));
}

/** How far a node is that hands its children over, until nothing is left on it, or it has gone. */
const emptying = (node) => async (box, isShown, say) => {
  let began = false;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (!isShown()) return;
    const now = await ask(`nodes/${encodeURIComponent(node.id)}`).catch((error) => error);
    if (!isShown()) return;
    if (now instanceof Error && now.status !== 404) {
      box.replaceChildren(make("p", { class: "warn" }, `How far it is, is not known: ${now.message}.`));
      if (now.status === 401) return;
      continue;
    }
    const gone = now instanceof Error;
    const still = !gone && (now.draining || now.state === "leaving");
    const end = gone ? `${node.name} has left.`
      : began && !still ? `${node.name} takes children again.`
      : still && now.state !== "leaving" && now.left?.children === 0 ? `${node.name} is drained: nothing is left on it.` : "";
    if (end) {
      box.replaceChildren();
      say(end);
      notice(end);
      return;
    }
    began ||= still;
    if (still) box.replaceChildren(...leftOn(now));
  }
};

/** What is left on a node, and why. */
function leftOn({ left }) {
  if (!left) return [make("p", {}, number(null), " children left")];
  const { children, first } = left;
  const more = children - first.length;
  return [
    make("p", {}, `${number(children)} ${children === 1 ? "child" : "children"} left${first.length ? ":" : ""}`),
    make("ul", {}, first.map((one) => make("li", {}, `${one.child}: ${one.reason}`)), more > 0 && first.length ? make("li", {}, `${number(more)} more`) : null),
  ];
}

const onNode = (node, action, dry) => act("POST", `nodes/${encodeURIComponent(node.id)}/${action}`, null, dry);

function leaveDialog(node) {
  confirmAction(`Let ${node.name} leave`, [], (dry) => onNode(node, "leave", dry), emptying(node));
}

function stayDialog(node) {
  confirmAction(`Let ${node.name} stay`, [], (dry) => onNode(node, "stay", dry));
}

function drainDialog(node) {
  confirmAction(`Drain ${node.name}`, [], (dry) => onNode(node, "drain", dry), emptying(node));
}

function undrainDialog(node) {
  confirmAction(`Let ${node.name} take children again`, [], (dry) => onNode(node, "undrain", dry));
}

/** What may be done with a node. What takes a drain back has the key of the drain, and so its focus. */
function nodeButtons(node) {
  const way = (text, dialog, key, label) => button(text, () => dialog(node), { "data-key": `${key} ${node.id}`, "aria-label": label });
  const leaves = node.state === "leaving";
  return make("div", { class: "row" },
    node.draining ? way("Take children again …", undrainDialog, "drain", `Let ${node.name} take children again …`)
      : leaves ? null : way("Drain …", drainDialog, "drain", `Drain ${node.name} …`),
    leaves ? way("Stay …", stayDialog, "stay", `Let ${node.name} stay …`) : null,
    way("Leave …", leaveDialog, "leave", `Let ${node.name} leave …`));
}

const startDialog = () => prepare("Start a child", async () => {
  const kinds = (await ask("settings")).kinds;
  const id = make("input", { value: "new-child", required: true, maxlength: 256 });
  const kind = make("select", {}, kinds.map((kind) => make("option", { value: kind.name }, kind.name)));
  const args = make("input", { value: "null" });
  confirmAction("Start a child", [
    make("label", {}, "Id", id), make("label", {}, "Kind", kind), make("label", {}, "Arguments as JSON", args),
  ], async (dry) => {
    let value;
    try { value = JSON.parse(args.value || "null"); } catch (error) { throw new Error(`the arguments are no JSON: ${error.message}`); }
    return act("POST", "children", { id: id.value, kind: kind.value, args: value }, dry);
  });
});

// ---- the overview ------------------------------------------------------------------------------

const place = (at, count, radius) => {
  const turn = count === 1 ? -Math.PI / 2 : (2 * Math.PI * at) / count - Math.PI / 2;
  return [260 + radius * 1.5 * Math.cos(turn), 158 + radius * Math.sin(turn)];
};

function arc(x, y, radius, share) {
  const turn = Math.min(share, 0.9999) * 2 * Math.PI - Math.PI / 2;
  const [endX, endY] = [x + radius * Math.cos(turn), y + radius * Math.sin(turn)];
  return `M ${x} ${y - radius} A ${radius} ${radius} 0 ${share > 0.5 ? 1 : 0} 1 ${endX} ${endY}`;
}

/** Beyond so many nodes the ring shows their states and shares, and the table says the rest. */
const NAMED = 10;

/** Beyond so many nodes the round trips would lie over each other. */
const LABELLED = 5;
/** Beyond so many nodes only the links of this one are asked for. */
const LINKED = 24;

const isMember = (node) => node.state !== "joining";

/** The state in a word: a member that is heard may be drained. */
function stateOf(node) {
  if (node.state !== "alive" || !node.draining) return node.state;
  return node.left?.children === 0 ? "drained" : "draining";
}

/** So many of the children that are left on a node are named in the table. */
const LEFT = 2;

function leftWords({ left }) {
  if (!left?.children) return [];
  const named = left.first.slice(0, LEFT).map((one) => `${one.child} (${one.reason})`);
  const more = left.children - named.length;
  return [`${number(left.children)} left: ${[...named, ...(more > 0 ? [`${number(more)} more`] : [])].join(", ")}`];
}

const labelsOf = ({ labels }) => Object.entries(labels ?? {}).map(([key, value]) => (value ? `${key}=${value}` : key)).join(", ");

/** What is not as it should be with a node, in words. */
function notesOf(node) {
  const detours = (node.links ?? []).filter((link) => link.by).map((link) => `messages to ${link.to.name} go by ${link.by.name}`);
  return [
    ...(node.missing.length ? [`not in: ${node.missing.map((pair) => `${pair.node.name} does not hear ${pair.unheard.name}`).join(", ")}`] : []),
    ...(node.suspected_by.length ? [`suspected by ${node.suspected_by.map((by) => by.name).join(", ")}`] : []),
    ...(node.link.by && !node.is_self ? [`reached by ${node.link.by.name}`] : node.link.state === "down" ? ["no link"] : []),
    ...detours,
    ...leftWords(node),
  ];
}

/** Each link once: down if one of its ends says so, not known if none of them told. */
function linksOf(nodes) {
  const links = new Map();
  const tell = (from, to, link) => {
    const ends = [from, to].toSorted();
    const before = links.get(ends.join());
    if (before && (before.by || before.state === "down" && !link.by || link.state === "unknown")) return;
    links.set(ends.join(), { ends, state: link.state, rtt_ms: link.rtt_ms, by: link.by?.name });
  };
  const self = nodes.find((node) => node.is_self);
  const known = new Set(nodes.map((node) => node.id));
  const asked = nodes.some((node) => node.links);
  for (const node of nodes) {
    if (asked && !node.links && isMember(node)) for (const { id } of nodes.filter(isMember)) if (id !== node.id) tell(node.id, id, { state: "unknown", rtt_ms: null });
    for (const link of node.links ?? []) if (known.has(link.to.id)) tell(node.id, link.to.id, link);
    if (self && node !== self) tell(self.id, node.id, node.link);
  }
  return [...links.values()];
}

function ring(nodes) {
  const size = Math.max(5, Math.min(34, 340 / nodes.length));
  const named = nodes.length <= NAMED;
  const svg = make("svg", { class: "ring", viewBox: "0 0 520 316", role: "img", "aria-label": "The nodes in a ring; the table below says the same" });
  const places = new Map(nodes.map((node, at) => [node.id, place(at, nodes.length, nodes.length === 1 ? 0 : 108)]));
  for (const { ends: [one, other], state, rtt_ms, by } of linksOf(nodes)) {
    const [[x1, y1], [x2, y2]] = [places.get(one), places.get(other)];
    svg.append(make("line", { class: `link ${state}`, x1, y1, x2, y2 }));
    if (!named || (state !== "down" && nodes.length > LABELLED)) continue;
    const text = { down: by ? `by ${by}` : "no link", unknown: "?" }[state] ?? (rtt_ms === null ? "" : span(rtt_ms));
    svg.append(make("text", { class: "quiet", x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 4 }, text));
  }
  nodes.forEach((node, at) => {
    const [x, y] = places.get(node.id);
    const share = make("path", { class: "share", d: arc(x, y, size, node.share) });
    share.style.stroke = `var(--c${at % 8})`;
    svg.append(
      make("circle", { class: "track", cx: x, cy: y, r: size }),
      make("circle", { class: `node ${stateOf(node)}`, cx: x, cy: y, r: size * 0.88 }, make("title", {}, `${node.name}: ${stateOf(node)}, ${node.children} children`)),
      share,
    );
    if (!named) return;
    svg.append(
      make("text", { x, y: y - 2 }, node.name.length > 9 ? `${node.name.slice(0, 8)}…` : node.name),
      make("text", { class: "quiet", x, y: y + 13 }, stateOf(node) === "alive" ? number(node.children) : stateOf(node)),
    );
  });
  return { svg, places };
}

/** A move, once, as a dot that travels. */
function fly(picture, from, to) {
  const [start, end] = [picture.places.get(from), picture.places.get(to)];
  if (!start || !end || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const dot = make("circle", { class: "dot", r: 5, cx: start[0], cy: start[1] });
  picture.svg.append(dot);
  const began = performance.now();
  const step = (now) => {
    const part = Math.min((now - began) / 900, 1);
    const eased = part * part * (3 - 2 * part);
    dot.setAttribute("cx", start[0] + (end[0] - start[0]) * eased);
    dot.setAttribute("cy", start[1] + (end[1] - start[1]) * eased);
    if (part < 1 && dot.isConnected) requestAnimationFrame(step);
    else dot.remove();
  };
  requestAnimationFrame(step);
}

/** What the departure of a node cost, in words. */
function costOf(node) {
  const so = (count, one, many) => count ? [`${number(count)} ${count === 1 ? one : many}`] : [];
  const lost = so(node.begun_anew, "child began anew", "children began anew");
  const rest = [
    ...so(node.recovered, "child went on with a copy", "children went on with copies"),
    ...so(node.moved, "child moved", "children moved"),
    ...so(node.parked, "state parked", "states parked"),
  ];
  if (!lost.length && !rest.length) return "nothing";
  return [lost.length ? make("span", { class: "error" }, lost) : "", lost.length && rest.length ? ", " : "", rest.join(", ")];
}

function departed({ items, unreachable }) {
  if (!items.length) return [];
  const now = Date.now();
  return [
    table("Nodes that went in the last hour", [["node"], ["state"], ["since"], ["cost"]], items.map((node) => [
      make("span", { title: node.id }, node.name, make("br"), make("small", { class: "quiet" }, `…${node.id.slice(-8)}`)),
      [state(node.how), node.came_back_at ? ` came back at ${clock(node.came_back_at)}` : ""],
      make("time", { datetime: node.at, title: new Date(node.at).toLocaleString("en-GB") }, `${clock(node.at)}, ${long(Math.max(0, (now - new Date(node.at)) / 1000))} ago`),
      costOf(node),
    ])),
    unreachable.length ? make("p", { class: "warn" }, `Not counted: what it cost ${unreachable.map((node) => node.name).join(", ")}.`) : "",
  ];
}

function overview() {
  const figures = make("dl", { class: "figures" });
  const waiting = make("p", { id: "waits", role: "status", class: "warn" });
  waiting.hidden = true;
  const map = make("div");
  const list = make("div");
  const moves = make("div");
  const gone = make("section", { class: "card", id: "departed" });
  gone.hidden = true;
  main.replaceChildren(
    make("section", { class: "card", "aria-label": "At a glance" }, waiting, figures),
    make("div", { class: "two" },
      make("section", { class: "card" }, make("h2", {}, "Nodes"), map),
      make("section", { class: "card" }, make("h2", {}, "Latest handovers"), moves)),
    make("section", { class: "card" }, list),
    gone,
  );
  let before = null;
  let count = 0;
  const order = { name: "node", down: false };
  let picture = null;
  let shape = "";
  let seen = null;
  let waits = 0;
  let [failed, parkedStates] = [null, null];
  const figure = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  const refresh = watched(async () => {
    const [{ items: nodes }, told, running, went] = await Promise.all(
      [ask(`nodes?${query({ limit: "1000", links: count <= LINKED ? "true" : "" })}`), ask("handovers?limit=200"), ask("handovers?status=running&limit=1"), ask("departed")]);
    gone.hidden = went.items.length === 0;
    refill(gone, ...departed(went));
    // A node that died is no news once it is in again.
    const down = went.items.filter((node) => node.how === "down" && !node.came_back_at).length;
    count = nodes.length;
    nodes.sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
    nodesSeen = nodes;
    const children = nodes.reduce((sum, node) => sum + node.children, 0);
    const members = nodes.filter(isMember);
    const joining = nodes.length - members.length;
    const self = nodes.find((node) => node.is_self);
    // A view that has just changed is not settled for a moment: that is no news.
    waits = self?.waits_for ? waits + 1 : 0;
    const words = waits > 1 || (self && !isMember(self)) ? `${self.name} ${self.waits_for ?? "waits"}` : "";
    waiting.hidden = words === "";
    if (waiting.textContent !== words) waiting.textContent = words;
    const sum = (name) => members.some((node) => node.load === null) ? null : members.reduce((all, node) => all + node.load[name], 0);
    const [handled, now] = [sum("handled"), performance.now()];
    const rate = before && handled !== null && before.handled !== null && handled >= before.handled && before.count === nodes.length
      ? ((handled - before.handled) * 1000) / (now - before.now) : null;
    before = { handled, now, count: nodes.length };
    figures.replaceChildren(
      figure("nodes", number(members.length)), joining ? figure("joining", number(joining)) : "",
      figure("failed children", make("a", { href: "#/children/failed" }, number(failed))),
      figure("parked states", make("a", { href: "#/parked" }, number(parkedStates))),
      down ? figure("down in the last hour", make("span", { class: "error" }, number(down))) : "", figure("children", number(children)),
      figure("messages a second", number(rate)), figure("messages that wait", number(sum("queued"))),
      figure("moves running", told.unreachable.length ? number(null) : number(running.total)),
    );
    const newShape = JSON.stringify([nodes.map((node) => [node.id, node.name, stateOf(node), node.children]),
      linksOf(nodes).map(({ ends, state, rtt_ms, by }) => [ends, state, by, Math.round((rtt_ms ?? -1) * 10)])]);
    if (newShape !== shape) {
      shape = newShape;
      picture = ring(nodes);
      map.replaceChildren(picture.svg);
    }
    let flown = 0;
    for (const item of told.items) {
      if (seen && !seen.has(item.id) && item.status !== "failed" && flown++ < 40) fly(picture, item.from.id, item.to.id);
    }
    seen = new Set(told.items.map((item) => item.id));
    const latest = told.items.slice(0, 8);
    refill(moves, latest.length
      ? table("Those under way first", [["child"], ["way"], ["status"], ["took", "number"]], latest.map((item) =>
          [childLink(item.child), `${item.from.name} → ${item.to.name}`, state(item.status), span(item.took_ms)]))
      : make("p", { class: "quiet" }, "None that a node remembers."));
    const notes = nodes.some((node) => notesOf(node).length);
    const labels = nodes.some((node) => labelsOf(node));
    const columns = [
      { name: "node", by: (node) => node.name, cell: (node) => make("span", { title: node.id }, `${node.name}${node.is_self ? " (this one)" : ""}`, make("br"), make("small", { class: "quiet" }, `…${node.id.slice(-8)}`)) },
      { name: "state", by: stateOf, cell: (node) => state(stateOf(node)) },
      ...(notes ? [{ name: "notes", cell: (node) => notesOf(node).length ? make("span", { class: "warn" }, notesOf(node).join("; ")) : [] }] : []),
      ...(labels ? [{ name: "labels", by: labelsOf, cell: labelsOf }] : []),
      { name: "children", kind: "number", by: (node) => node.children, cell: (node) => number(node.children) },
      { name: "share", kind: "number", by: (node) => node.share, cell: (node) => `${(node.share * 100).toFixed(1)} %` },
      { name: "waiting", kind: "number", by: (node) => node.load?.queued, cell: (node) => number(node.load?.queued) },
      { name: "handled", kind: "number", by: (node) => node.load?.handled, cell: (node) => number(node.load?.handled) },
      { name: "round trip", kind: "number", by: (node) => node.link.rtt_ms, cell: (node) => node.is_self ? "–" : node.link.rtt_ms === null ? number(null) : span(node.link.rtt_ms) },
      { name: "up", kind: "number", by: (node) => node.uptime_seconds, cell: (node) => long(node.uptime_seconds) },
      { name: "version", by: (node) => node.version, cell: (node) => node.version ?? number(null) },
      { name: "", cell: (node) => session.act && isMember(node) ? nodeButtons(node) : "" },
    ];
    const draw = () => refill(list, sorted("The nodes, as this one sees them", columns, nodes, order, () => {
      pressed = null;
      draw();
    }));
    draw();
  });
  // All nodes are asked for these, and they change seldom.
  const troubles = watched(async () => {
    const [children, states] = await Promise.all([ask("children?state=failed&limit=1"), ask("parked?limit=1")]);
    failed = children.total;
    parkedStates = states.unreachable.length && states.total === 0 ? null : states.total;
  });
  const stops = [every(5000, troubles), every(1000, refresh)];
  return { refresh, stop: () => stops.forEach((stop) => stop()) };
}

// ---- lists -------------------------------------------------------------------------------------

/** A list in pages: a form of filters, what `show` makes of a page, and the ways back and on. */
function paged({ isFresh = false, title, path, size, pause, fields, more = null, isPaused = () => false, show }) {
  // Whoever comes back finds the page as it was left.
  const kept = isFresh ? undefined : history.state?.[path];
  for (const [name, , input] of fields) input.value = kept?.filter[name] ?? input.value;
  let cursors = kept?.cursors ?? [""];
  let next = null;
  let latest = 0;
  let turning = false;
  let timer = null;
  const form = make("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    fields.map(([, label, input]) => {
      input.addEventListener(input.tagName === "SELECT" ? "change" : "input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          cursors = [""];
          watched(() => load(cursors))();
        }, 250);
      });
      return make("label", {}, label, input);
    }), more);
  const rows = make("div");
  const back = button("Previous", () => turn(cursors.slice(0, -1)));
  const on = button("Next", () => turn([...cursors, next]));
  const count = make("span", { role: "status" });
  main.replaceChildren(make("section", { class: "card" }, make("h2", {}, title), form, rows,
    make("div", { class: "row" }, back, on, count)));
  /** To another page; where it stays is known when its rows are here. */
  const turn = async (wanted) => {
    if (turning || wanted.length === 0) return;
    turning = back.disabled = on.disabled = true;
    await watched(() => load(wanted))();
    turning = false;
    back.disabled = cursors.length === 1;
    on.disabled = !next;
  };
  const load = async (wanted) => {
    const mine = ++latest;
    const filter = Object.fromEntries(fields.map(([name, , input]) => [name, input.value]));
    let page;
    let none = "";
    try {
      page = await ask(`${path}?${query({ ...filter, limit: String(size), cursor: wanted.at(-1) })}`);
      if (page.total === 0) none = await nothing(filter);
    } catch (error) {
      // A filter that is none, or names what there is not: that is an answer, too.
      if (![400, 404, 409].includes(error.status)) throw error;
      page = { items: [], total: 0, next_cursor: null, unreachable: [] };
      none = `None: ${error.message}.`;
    }
    if (mine !== latest) return;
    // What was on this page has gone.
    if (!page.items.length && wanted.length > 1) return load(wanted.slice(0, -1));
    cursors = wanted;
    next = page.next_cursor;
    history.replaceState({ ...history.state, [path]: { filter, cursors } }, "");
    back.disabled = cursors.length === 1;
    on.disabled = !next;
    const from = (cursors.length - 1) * size;
    const text = page.total === 0 ? none : `${number(from + 1)} to ${number(from + page.items.length)} of ${number(page.total)}`;
    // Read aloud when it changes, not whenever it is written.
    if (count.textContent !== text) count.textContent = text;
    refill(rows, show(page));
  };
  /** Why there is nothing: a name in a filter may be none. */
  const nothing = async (filter) => {
    const used = fields.filter(([name]) => filter[name]);
    if (!used.length) return "None.";
    if (filter.node) {
      const { items } = await ask("nodes?limit=1000");
      if (!items.some((node) => node.name === filter.node || node.id === filter.node)) return `None: no node is named ${filter.node}.`;
    }
    if (filter.kind) {
      const { kinds } = await ask("settings");
      if (!kinds.some((kind) => kind.name === filter.kind)) return `None: this node knows no kind ${filter.kind}.`;
    }
    return `None with ${used.map(([name, label, input]) => `${label.toLowerCase()} ${input.selectedOptions ? input.selectedOptions[0].textContent : `“${filter[name]}”`}`).join(" and ")}.`;
  };
  const refresh = watched(async () => { if (!turning && !isPaused()) await load(cursors); });
  return { refresh, stop: every(pause, refresh) };
}

const choice = (...names) => make("select", {}, ["", ...names].map((name) => make("option", { value: name }, name || "any")));

// ---- children ----------------------------------------------------------------------------------

/** `chosen`: children in this state, if it is one. */
function children(chosen) {
  const states = choice("running", "moving", "waiting", "failed", "orphaned");
  if ([...states.options].some((option) => option.value === chosen)) states.value = chosen;
  return paged({
    isFresh: Boolean(chosen),
    title: "Children", path: "children", size: 50, pause: 2000,
    fields: [
      ["text", "Id contains", make("input", { type: "search" })], ["kind", "Kind", make("input")], ["node", "Node", make("input")],
      ["tag", "Tag", make("input")], ["state", "State", states],
    ],
    more: session.act ? button("Start a child …", startDialog) : null,
    show: (page) => table("By id; what a node did not tell in time is ?",
      [["id"], ["kind"], ["node"], ["state"], ["waiting", "number"], ["handled", "number"], ["restarts", "number"], ["tags"]],
      page.items.map((item) => [
        childLink(item.id), item.kind, item.nodes.map((node) => node.name).join(", ") + (item.pinned ? " (pinned)" : ""),
        state(item.state), number(item.runtime?.mailbox), number(item.runtime?.handled), number(item.runtime?.restarts), item.tags.join(", "),
      ])),
  });
}

function child(id) {
  const path = `children/${encodeURIComponent(id)}`;
  const parts = { facts: make("div"), why: make("div"), handover: make("div"), history: make("div"), state: make("div") };
  const actions = make("div", { class: "row" });
  main.replaceChildren(
    make("section", { class: "card" }, make("h2", {}, id), actions, parts.facts),
    make("section", { class: "card" }, make("h2", {}, "Why it is where it is"), parts.why),
    make("section", { class: "card" }, make("h2", {}, "Its handovers"), parts.handover),
    make("section", { class: "card" }, make("h2", {}, "Its state"), parts.state),
    make("section", { class: "card" }, make("h2", {}, "What happened to it"), parts.history),
  );
  let owner = null;
  // What somebody has bound to a node can be released, and what may be on its way there.
  const release = button("Release …", () => releaseDialog(id), { title: "Let the distribution say again where it belongs" });
  release.hidden = true;
  if (session.act) actions.append(button("Migrate …", () => migrateDialog(id, owner)), release, button("Stop …", () => stopDialog(id)));
  else actions.append(noRight());
  const shown = make("div");
  parts.state.append(shown, session.states
    ? button("Show", async (event) => {
        const told = await ask(`${path}/state`).catch((error) => ({ problem: error.message }));
        const at = `at ${new Date().toLocaleTimeString("en-GB")}`;
        shown.replaceChildren(make("p", { class: "quiet" }, told.problem ? `${told.problem} (${at})` : `${size(told.bytes)} of CBOR, version ${told.state_version}, at epoch ${told.epoch}, ${at}`),
          told.problem ? "" : make("pre", { tabindex: "0" }, told.diagnostic ?? "It is not one value of CBOR."));
        event.target.textContent = "Show again";
      })
    : make("p", { class: "quiet" }, "States are not shown: AdminOptions::states is off."));
  const refresh = watched(async () => {
    let told;
    try {
      told = await ask(path);
    } catch (error) {
      if (error.status !== 404) throw error;
      // That is an answer, too. It may come again.
      parts.facts.replaceChildren(make("p", { class: "warn" }, "There is no such child."));
      for (const part of [parts.why, parts.handover, parts.history, shown]) part.replaceChildren();
      actions.hidden = true;
      // Where the dialog that stopped it was opened from.
      catchFocus();
      return;
    }
    actions.hidden = false;
    owner = told.why.owner.id;
    release.hidden = !told.pinned && told.state !== "moving";
    const run = told.runtime;
    refill(parts.facts, facts([
      ["kind", told.kind], ["state", state(told.state)], ["node", told.nodes.map((node) => `${node.name} (${node.role})`).join(", ")],
      ["failed", told.failure ? `${told.failure.reason} (${told.failure.given_up ? "given up" : "to be started again"}, after ${number(told.failure.restarts)} restarts)` : "no"],
      ["epoch", told.epoch], ["tags", told.tags.join(", ") || "–"],
      ["metadata", Object.entries(told.metadata).map(([key, value]) => `${key}: ${value}`).join("; ") || "–"],
      ["messages that wait", number(run?.mailbox)], ["messages handled there", number(run?.handled)], ["restarts there", number(run?.restarts)],
      ["came by", run ? (run.last_handover ? `a handover from ${run.last_handover.from.name}, epoch ${run.last_handover.epoch}` : "a start there") : number(null)],
      ["can move", run && run.cannot_move ? `no: ${run.cannot_move}` : run ? "yes, as far as is known" : number(null)],
      ["there since", run ? new Date(run.running_since).toLocaleString("en-GB") : number(null)],
      ["restarted", told.spec.restart === "temporary" ? "never (temporary)" : `${told.spec.restart}, at most ${number(told.spec.restarts)} times in ${told.spec.within_seconds} s`],
      ["arguments", size(told.spec.args_bytes)],
    ]));
    refill(parts.why, make("p", {}, told.why.text), facts([
      ["belongs on", told.why.belongs?.name ?? "nowhere"], ["home", told.why.home?.name ?? "none"],
      ["born at", told.why.born], ["copied at", told.why.copied],
      ["to choose from", told.why.candidates.map((node) => node.reason ? `${node.name} (${node.reason})` : node.name).join(", ")],
    ]));
    const { items } = await ask(`handovers?${query({ child: id, limit: "20" })}`);
    refill(parts.handover, items.length ? timeline(items) : make("p", { class: "quiet" }, "None that a node remembers."));
    refill(parts.history,
      told.history.length ? log(told.history) : make("p", { class: "quiet" }, "Nothing that is remembered."),
      told.history_unknown.length ? make("p", { class: "warn" }, `Not known: what ${told.history_unknown.map((node) => node.name).join(", ")} saw of it.`) : "");
  });
  return { refresh, stop: every(2000, refresh) };
}

// ---- handovers ---------------------------------------------------------------------------------

function timeline(items) {
  const longest = Math.max(...items.map((item) => item.took_ms ?? 0), 0.001);
  return make("div", {},
    make("ul", { class: "legend", "aria-label": "Phases" }, PHASES.map((name) => make("li", {}, make("span", { class: `p-${name}` }), name))),
    table("Phases to one scale", [["child"], ["way"], ["status"], ["began"], ["state size", "number"], ["took", "number"], ["phases"]], items.map((item) => {
      const bar = make("div", { class: "bar", role: "img", "aria-label": item.phases.map((phase) => `${phase.name} ${span(phase.took_ms)}`).join(", ") || "no phases known" },
        item.phases.map((phase) => {
          const part = make("span", { class: `p-${phase.name}`, title: `${phase.name}: ${span(phase.took_ms)}` });
          part.style.width = `${((phase.took_ms ?? 0) / longest) * 100}%`;
          return part;
        }));
      const words = item.phases.map((phase) => `${phase.name} ${phase.took_ms === null ? "…" : span(phase.took_ms)}`).join(", ");
      return [childLink(item.child), `${item.from.name} → ${item.to.name}`, [state(item.status), item.reason ? make("div", { class: "error" }, item.reason) : ""],
        clock(item.started_at ?? item.ended_at), size(item.bytes), item.status === "running" ? "…" : span(item.took_ms), [bar, make("small", { class: "quiet" }, words)]];
    })));
}

function handovers() {
  return paged({
    title: "Handovers", path: "handovers", size: 50, pause: 1000,
    fields: [
      ["status", "Status", choice("running", "done", "failed")], ["node", "From or to node", make("input")],
      ["child", "Child id", make("input", { type: "search" })],
    ],
    show: (page) => make("div", {},
      page.unreachable.length ? make("p", { class: "warn" }, `Not known: the handovers of ${page.unreachable.map((node) => node.name).join(", ")}.`) : "",
      page.items.length ? timeline(page.items) : make("p", { class: "quiet" }, "None that a node remembers.")),
  });
}

// ---- parked states -----------------------------------------------------------------------------

function applyDialog(item) {
  const replace = make("input", { type: "checkbox" });
  confirmAction(`Apply a state of ${item.child}`, [
    make("label", { class: "inline" }, replace, "put it in the place of the child's own state, which is parked instead"),
  ], (dry) => act("POST", `parked/${encodeURIComponent(item.key)}/apply`, { replace: replace.checked }, dry));
}

function discardDialog(item) {
  confirmAction(`Discard a state of ${item.child}`, [], (dry) => act("DELETE", `parked/${encodeURIComponent(item.key)}`, null, dry));
}

const showParked = (item) => prepare(`A state of ${item.child}`, async () => {
  const told = await ask(`parked/${encodeURIComponent(item.key)}/state`);
  confirmAction(`A state of ${item.child}`, [
    make("p", { class: "quiet" }, `${size(told.bytes)} of CBOR, version ${told.state_version}, of epoch ${told.epoch}`),
    make("pre", { tabindex: "0" }, told.diagnostic ?? "It is not one value of CBOR."),
  ], null);
  document.getElementById("dialog-text").textContent = "";
});

function parked() {
  return paged({
    title: "Parked states", path: "parked", size: 50, pause: 2000,
    fields: [["child", "Child id", make("input", { type: "search" })]],
    show: (page) => make("div", {},
      page.unreachable.length ? make("p", { class: "warn" }, `Not known: what ${page.unreachable.map((node) => node.name).join(", ")} alone may hold.`) : "",
      page.items.length ? table("What nobody merged after a split, the latest first",
        [["child"], ["of node"], ["epoch"], ["parked"], ["size", "number"], ["held by"], ["why"], [""]],
        page.items.map((item) => [
          childLink(item.child), item.node.name, item.epoch, new Date(item.parked_at).toLocaleString("en-GB"), size(item.bytes),
          item.holders.length > 1 ? item.holders.map((node) => node.name).join(", ") : make("span", { class: "warn" }, `${item.holders.map((node) => node.name).join(", ")} alone`), item.reason,
          make("div", { class: "row" },
            session.states ? button("Show …", () => showParked(item), { "data-key": `show ${item.key}`, "aria-label": `Show the state of ${item.child} …` }) : "",
            session.act ? button("Apply …", () => applyDialog(item), { "data-key": `apply ${item.key}`, "aria-label": `Apply the state of ${item.child} …` }) : "",
            session.act ? button("Discard …", () => discardDialog(item), { "data-key": `discard ${item.key}`, "aria-label": `Discard the state of ${item.child} …` }) : ""),
        ])) : make("p", { class: "quiet" }, "None.")),
  });
}

// ---- events ------------------------------------------------------------------------------------

function isGrave(event) { return ["warn", "error"].includes(event.level); }

/** Events as lines; `seenBy`: whether it is said which node saw each. */
function log(events, seenBy = false) {
  return make("ol", { class: "log" }, events.map((event) =>
    make("li", { class: isGrave(event) ? event.level : "" },
      make("time", { datetime: event.at, title: new Date(event.at).toLocaleString("en-GB") }, clock(event.at)), isGrave(event) ? `${event.level}: ` : "", event.text,
      seenBy ? make("small", { class: "quiet" }, ` (seen by ${event.node.name})`) : "")));
}

function events() {
  let paused = false;
  const level = make("select", {}, [["", "any"], ["info", "not of single children"], ["warn", "warnings and errors"], ["error", "errors"]].map(([value, name]) => make("option", { value }, name)));
  const pause = button("Pause", () => { paused = !paused; pause.textContent = paused ? "Go on" : "Pause"; });
  return paged({
    title: "Events, the latest first", path: "events/latest", size: 100, pause: 2000, isPaused: () => paused, more: pause,
    fields: [
      ["text", "Contains", make("input", { type: "search", maxlength: 256 })], ["level", "Level", level],
      ["node", "Seen by node", make("input")], ["child", "Child id", make("input", { type: "search" })],
    ],
    show: (page) => make("div", {},
      page.unreachable.length ? make("p", { class: "warn" }, `Not known: what ${page.unreachable.map((node) => node.name).join(", ")} saw.`) : "",
      page.items.length ? log(page.items, true) : make("p", { class: "quiet" }, "Nothing.")),
  });
}

// ---- settings ----------------------------------------------------------------------------------

function settings() {
  const body = make("div");
  main.replaceChildren(body);
  const refresh = watched(async () => {
    const told = await ask("settings");
    refill(body,
      make("section", { class: "card" }, make("h2", {}, "This node"), facts([["hub", told.hub], ["node", told.node.name], ["id", told.node.id], ["version", told.version]])),
      make("section", { class: "card" }, make("h2", {}, "Strategies"), facts(Object.entries(told.strategies).map(([name, value]) => [name.replaceAll("_", " "), value]))),
      make("section", { class: "card" }, make("h2", {}, "Settings"), table("Of this node", [["setting"], ["value"], ["default"]],
        told.settings.map((one) => [one.name, one.changed ? make("strong", {}, `${one.value} (changed)`) : one.value, one.default]))),
      make("section", { class: "card" }, make("h2", {}, "Kinds"), table("That this node has registered", [["kind"], ["hosted"], ["messages"], ["state version", "number"], ["reads from", "number"]],
        told.kinds.map((kind) => [kind.name, kind.hosted ? "yes" : "no, sends only", kind.messages.join(", "), number(kind.state_version), number(kind.oldest_state_version)]))),
    );
  });
  return { refresh, stop: every(4000, refresh) };
}

// ---- going about -------------------------------------------------------------------------------

const views = { overview, children, child, handovers, parked, events, settings };

function show() {
  const [, name = "overview", rest] = location.hash.match(/^#\/([a-z]+)(?:\/(.*))?$/) ?? [];
  view.stop();
  const known = Object.hasOwn(views, name) ? name : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#/${known}` || (known === "child" && link.hash === "#/children");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let id = rest ?? "";
  try { id = decodeURIComponent(id); } catch { /* it is shown as it is */ }
  // What comes late is of the view before.
  view = { stop() {} };
  Object.assign(view, views[known](id));
  document.title = `${known === "child" ? id : known} · ${document.getElementById("hub-name").textContent}`;
}

document.querySelector("a.skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener("hashchange", () => {
  if (!main.hidden) {
    show();
    main.focus();
  }
});

async function begin() {
  try {
    session = await ask("session");
    document.getElementById("sign-in").hidden = true;
    main.hidden = false;
    const told = await ask("settings");
    nodesSeen = (await ask("nodes?limit=1000")).items;
    document.getElementById("hub-name").textContent = told.hub;
    document.getElementById("hub-node").textContent = `as ${told.node.name} sees it`;
  } catch (error) {
    if (error.status === 401) return;
    unheard(error.message);
    if (error.status === 403) {
      main.replaceChildren(make("section", { class: "card" }, make("h2", {}, "Not allowed"), make("p", {}, error.message)));
      return;
    }
    setTimeout(begin, 2000);
    return;
  }
  show();
}

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = `Theme: ${name}`;
  try { localStorage.setItem("actix-hub-theme", name); } catch { /* not remembered */ }
}
document.getElementById("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]);
});
try { theme(THEMES.find((name) => name === localStorage.getItem("actix-hub-theme")) ?? "auto"); } catch { theme("auto"); }

begin();
