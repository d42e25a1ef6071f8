// The page. It shows the lines in the order of their numbers, each once, and keeps what you write
// until it has come back as a line: a node may go at any moment.

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

/** The node this page talks to, the nodes it knows, and the socket between. */
let url = location.origin;
let others = [];
let socket = null;
let attempts = 0;
let heardAt = 0;
let lookedAt = 0;

/** What is shown. */
let room = "";
let user = "";
let life = 0;
let last = 0;
let shown = new Set();
let cluster = { me: "", nodes: [], stopped: [] };
let status = null;
let moved = null;

/** Ids of lines that were shown here in whichever life, and how many of them nobody has read. */
let met = new Set();
let unread = 0;

/** Names of nodes that somebody here has asked for. */
const starting = new Set();

/** Lines written here: those that are being sent, and those that lately were. */
let pending = [];
let recent = [];
let sentAt = 0;
let count = 0;
const writer = crypto.getRandomValues(new Uint32Array(3)).join("-");

const RESEND = 2000;
const REMEMBER = 20000;
const PENDING = 100;
/** A node that lives says something every 2 s; one that is silent for so long hangs. */
const SILENCE = 6000;
/** Ids of lines that are remembered, more than are shown. */
const IDS = 2000;

// ---- the link ----------------------------------------------------------------------------------

function connect() {
  const target = `${url.replace(/^http/, "ws")}/ws?${new URLSearchParams({ room, user })}`;
  const mine = (socket = new WebSocket(target));
  const late = setTimeout(() => mine.close(), 4000);
  sentAt = 0;
  mine.onopen = () => {
    clearTimeout(late);
    heardAt = Date.now();
  };
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heardAt = Date.now();
    hear(JSON.parse(data));
  };
  mine.onclose = () => {
    clearTimeout(late);
    if (mine === socket) elsewhere();
  };
}

/** Goes on with another node, or with the same one if there is no other. */
function elsewhere() {
  if (socket) {
    socket.onclose = null;
    socket.close();
    socket = null;
  }
  showLink("down", "looking for another node…");
  others = [...others.filter((other) => other !== url), url];
  url = others[0];
  // At once at first, then ever slower, and not all pages in step.
  const wait = Math.min(2000, 100 * attempts++) * (0.5 + Math.random());
  setTimeout(connect, wait);
}

/** Goes elsewhere when the node hangs: its connection may stand for hours then. */
setInterval(() => {
  const now = Date.now();
  // This page itself was stopped; what the node said meanwhile is read only now.
  if (now - lookedAt > 3000) heardAt = now;
  lookedAt = now;
  if (socket?.readyState !== WebSocket.OPEN || now - heardAt < SILENCE) return;
  notice("Node ", me(), " does not answer. This page goes on with another one.");
  elsewhere();
}, 1000);

function hear(word) {
  switch (word.type) {
    case "lines": return hearLines(word);
    case "room": return hearRoom(word);
    case "cluster": return hearCluster(word);
    case "trouble": return trouble(`The room does not answer: ${word.message}. Your messages wait.`);
    case "error": return hearError(word);
    case "alive": return;
    case "bye":
      notice("Node ", me(), " has stopped. This page goes on with another one.");
      cluster.nodes = cluster.nodes.filter((node) => node.id !== cluster.me);
      return elsewhere();
  }
}

function hearLines({ life: now, lines }) {
  attempts = 0;
  trouble("");
  if (now !== life) {
    if (life) notice("The room lost its node. Its messages come back from the nodes that saw them.");
    for (const old of document.querySelectorAll("#lines [data-number]")) old.remove();
    [life, last, shown, moved] = [now, 0, new Set(), null];
    // What only this page knows, since its node is gone too, is said again: the room knows ids.
    setTimeout(sayAgain, 1000);
  }
  const bottom = atBottom();
  const first = !met.size;
  for (const line of lines) {
    if (line.number <= last) continue;
    last = line.number;
    shown.add(line.id);
    const written = pending.find(({ id }) => id === line.id);
    if (written) {
      recent.push({ ...written, at: Date.now() });
      pending = pending.filter(({ id }) => id !== line.id);
      sentAt = 0;
    }
    // What was here before is not new, nor what came back with another number.
    if (!first && !met.has(line.id) && !written && (!bottom || document.hidden)) markUnread();
    met.add(line.id);
    showLine(line);
  }
  for (const ids of [shown, met]) {
    for (const id of ids) {
      if (ids.size <= IDS) break;
      ids.delete(id);
    }
  }
  while ($("lines").childElementCount > 1200) $("lines").firstElementChild.remove();
  recent = recent.filter(({ at }) => Date.now() - at < REMEMBER);
  showPending();
  if (bottom) toBottom();
  send();
}

function sayAgain() {
  const lost = recent.filter(({ id }) => !shown.has(id) && !pending.some((line) => line.id === id));
  pending = [...lost, ...pending];
  showPending();
  send();
}

function hearRoom(word) {
  status = word;
  trouble("");
  showRoom();
  showPeople();
}

function hearCluster(word) {
  tellChanges(cluster.nodes, word.nodes);
  cluster = word;
  const alive = cluster.nodes
    .filter((node) => node.url && node.state === "alive" && node.id !== cluster.me)
    .map((node) => node.url);
  // Those known from before are tried last: a node that sees nobody may be the one that is wrong.
  others = [...new Set([...alive, ...others])].slice(0, 50);
  for (const name of starting) if (!cluster.stopped.includes(name)) starting.delete(name);
  showLink("up", "connected to node ", me());
  showRooms();
  showNodes();
}

/** Says who came and who went, unless this page has just come itself. */
function tellChanges(before, now) {
  if (!before.length || !life) return;
  const without = (nodes, others) => nodes.filter(({ id }) => !others.some((other) => other.id === id));
  for (const { name } of without(now, before)) notice("Node ", bdi(name), " has joined.");
  for (const { name } of without(before, now)) notice("Node ", bdi(name), " is gone.");
}

function hearError({ id, message }) {
  if (id && pending.some((line) => line.id === id)) {
    pending = pending.filter((line) => line.id !== id);
    sentAt = 0;
    showPending();
    send();
    return notice(`Not sent: ${message}`);
  }
  starting.clear();
  showNodes();
  // Before there was a single line, it is the room itself that is refused.
  life ? notice(message) : trouble(message);
}

// ---- writing -----------------------------------------------------------------------------------

/** One line at a time is on its way, so that they stay in the order in which they were written. */
function send() {
  if (!pending.length || socket?.readyState !== WebSocket.OPEN || !life) return;
  if (sentAt && Date.now() - sentAt < RESEND) return;
  sentAt = Date.now();
  const { id, text } = pending[0];
  socket.send(JSON.stringify({ type: "say", id, text }));
}
setInterval(send, 250);

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  if (pending.length >= PENDING) return trouble("Too many messages wait already. Try again in a moment.");
  pending.push({ id: `${writer}-${++count}`, text });
  $("text").value = "";
  showPending();
  toBottom();
  haveRead();
  $("lines").querySelector(".unread")?.remove();
  send();
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});

$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("go-room").value.trim();
  if (name) location.assign(address(url, name));
});

$("more").addEventListener("click", () => {
  const open = $("chat").classList.toggle("panel");
  $("more").ariaExpanded = open;
  $("more").textContent = open ? "Back to the chat" : "Rooms and nodes";
});

$("leave").addEventListener("click", () => {
  $("confirm-title").replaceChildren("Stop node ", me(), "?");
  $("confirm").returnValue = "";
  $("confirm").showModal();
});

$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes" && socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: "leave" }));
  }
});

// ---- showing -----------------------------------------------------------------------------------

function element(tag, className, ...parts) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...parts);
  return made;
}

/** A name among other words: in its own direction, which it does not pass on to them. */
const bdi = (name) => element("bdi", "", name);
const me = () => bdi(cluster.nodes.find(({ id }) => id === cluster.me)?.name ?? "");
const address = (node, room) => `${node}/?${new URLSearchParams({ room, user })}`;

/** Gives an element the hue of a node or of a writer: the same everywhere. */
function hued(made, name) {
  // Steps of the golden angle: names that differ a little get hues that differ much.
  const sum = [...name].reduce((sum, c) => (sum * 35 + c.codePointAt(0)) % 9973, 0);
  made.classList.add("hue");
  made.style.setProperty("--hue", (sum * 137.5) % 360);
  return made;
}

const badge = (node) => hued(element("span", "badge", "node ", bdi(node)), node);

/** Who wrote a line: several people may have one name. */
const writerOf = (id) => id.slice(0, id.lastIndexOf("-"));

function showLine(line) {
  const made = line.what.said ? saidElement(line, line.what.said) : movedElement(line.what.moved);
  Object.assign(made.dataset, { id: line.id, number: line.number, at: line.at });
  $("lines").append(made);
  // Notices stay behind the line after which they came, also when all lines come anew.
  for (const notice of $("lines").querySelectorAll(`:scope > [data-after="${CSS.escape(line.id)}"]`)) {
    $("lines").append(notice);
  }
}

function saidElement(line, { user, node, text }) {
  const made = hued(element("li", "line"), user);
  const before = $("lines").lastElementChild;
  made.dataset.writer = writerOf(line.id);
  if (before?.dataset.writer !== made.dataset.writer || line.at - before.dataset.at >= 120000) {
    made.classList.add("first");
    const face = element("span", "face", (user.match(/[\p{L}\p{N}]/u)?.[0] ?? "?").toUpperCase());
    face.ariaHidden = "true";
    const at = new Date(line.at);
    const time = element("time", "", at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = at.toISOString();
    const name = element("b", "", user);
    name.dir = "auto";
    made.append(face, element("div", "who", name, badge(node), time));
  }
  const words = element("p", "text", ...linked(text));
  words.dir = "auto";
  made.append(words);
  return made;
}

/** Text with its addresses as links. */
function linked(text) {
  const parts = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(/\bhttps?:\/\/[^\s<>"\p{Cc}\p{Cf}]+/giu)) {
    let link = found;
    // What ends a sentence, or closes a parenthesis around the address, is none of it.
    while (/[.,;:!?'*_]$/.test(link) || (link.endsWith(")") && link.split(")").length > link.split("(").length)) {
      link = link.slice(0, -1);
    }
    if (!URL.canParse(link)) continue;
    const made = element("a", "", link);
    Object.assign(made, { href: link, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" });
    parts.push(text.slice(at, index), made);
    at = index + link.length;
  }
  return [...parts, text.slice(at)];
}

function movedElement(move) {
  moved = move;
  showRoom();
  return element("li", "notice fresh", element("span", "", "The room moved from node ", bdi(move.from), " to node ",
    bdi(move.to), ` (${duration(move.took)}).`));
}

function duration(micros) {
  const ms = micros / 1000;
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function notice(...parts) {
  const bottom = atBottom();
  const made = element("li", "notice fresh", element("span", "", ...parts));
  made.dataset.after = [...$("lines").querySelectorAll(":scope > [data-id]")].at(-1)?.dataset.id ?? "";
  $("lines").append(made);
  if (bottom) toBottom();
}

/** Counts one more line that is not read, and shows where those begin. */
function markUnread() {
  if (!unread++) {
    $("lines").querySelector(".unread")?.remove();
    const made = element("li", "notice unread", element("span", "", "New messages"));
    made.dataset.after = [...$("lines").querySelectorAll(":scope > [data-id]")].at(-1)?.dataset.id ?? "";
    $("lines").append(made);
  }
  showUnread();
}

function haveRead() {
  unread = 0;
  showUnread();
}

function showUnread() {
  $("unread").hidden = !unread || atBottom();
  $("unread").textContent = unread === 1 ? "1 new message" : `${unread} new messages`;
  // The title is plain text: what isolates the name there are characters.
  document.title = `${unread ? `(${unread}) ` : ""}#\u2068${room}\u2069`;
}

for (const [target, event] of [[$("scroll"), "scroll"], [document, "visibilitychange"]]) {
  target.addEventListener(event, () => {
    if (unread && atBottom() && !document.hidden) haveRead();
    else if (unread) showUnread();
  });
}

$("unread").addEventListener("click", () => {
  const mark = $("lines").querySelector(".unread");
  const below = mark && mark.getBoundingClientRect().top > $("scroll").getBoundingClientRect().bottom;
  below ? mark.scrollIntoView({ block: "start" }) : toBottom();
  $("scroll").focus();
});

function trouble(text) {
  // Said once: an alert is read aloud whenever it is written.
  if ($("trouble").textContent === text) return;
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

function showPending() {
  $("pending").replaceChildren(...pending.map(({ id, text }) => {
    const made = element("li", "line");
    made.dataset.id = id;
    const words = element("p", "text", text);
    words.dir = "auto";
    made.append(words);
    return made;
  }));
}

function showLink(state, ...parts) {
  const link = element("span", "", ...parts);
  // The node that served this page is gone: loading it again works at the other one.
  if (state === "up" && url !== location.origin) {
    const there = element("a", "", "open it there");
    there.href = address(url, room);
    link.append(" ", there);
  }
  // Said once: a status is read aloud whenever it is written.
  if ($("link").textContent !== link.textContent) $("link").replaceChildren(link);
  $("link").className = state;
  $("chat").classList.toggle("stale", state !== "up");
  showRoom();
  $("leave").disabled = state !== "up";
  state === "up" ? $("leave").replaceChildren("Stop node ", me()) : $("leave").replaceChildren("Stop this node");
  $("hub").href = `${url}/hub/`;
}

function showRoom() {
  if (!status) return;
  const runs = $("chat").classList.contains("stale") ? "last seen on " : "runs on ";
  const node = hued(element("strong", "", "node ", bdi(status.here)), status.here);
  $("where").replaceChildren(runs, node);
  if (moved?.to === status.here) {
    $("where").append(element("span", "", ", moved here from node ", bdi(moved.from), ` in ${duration(moved.took)}`));
  }
}

function showPeople() {
  $("people").replaceChildren(...status.members.map(([name, node]) => element("li", "", bdi(name), badge(node))));
}

function showRooms() {
  const names = new Set([room, ...cluster.nodes.flatMap((node) => node.rooms)]);
  const sorted = [...names].sort((a, b) => (b === room) - (a === room) || a.localeCompare(b));
  replaceKept($("rooms"), sorted.slice(0, 50).map((name) => {
    const link = element("a", "", "#", bdi(name));
    link.href = address(url, name);
    link.dataset.key = `room ${name}`;
    if (name === room) link.ariaCurrent = "page";
    return element("li", "", link);
  }));
  if (sorted.length > 50) $("rooms").append(element("li", "", `and ${sorted.length - 50} more`));
}

/** Puts others in the place of what is shown, and the focus back to what had it. */
function replaceKept(list, items) {
  const key = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items);
  if (key) list.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

const STATES = { alive: "", joining: "joining", silent: "not answering", leaving: "stopping" };

function showNodes() {
  const before = $("nodes").querySelector(".room.here")?.getBoundingClientRect();
  const running = cluster.nodes.map((node) => {
    const mine = node.id === cluster.me;
    const made = hued(element("li", `node ${node.state}`), node.name);
    Object.assign(made.dataset, { node: node.name, id: node.id });
    made.classList.toggle("me", mine);
    const state = (STATES[node.state] ?? node.state) || (mine ? "you are here" : "");
    const top = element("div", "top", element("span", "name", bdi(node.name)), element("span", "state", state));
    if (node.url) {
      const open = element("a", "", mine ? "another window" : "open a window");
      open.href = `${node.url}/?${new URLSearchParams({ room })}`;
      Object.assign(open, { target: "_blank", rel: "noopener", ariaLabel: `${open.textContent} on node ${node.name}` });
      open.dataset.key = `open ${node.id}`;
      top.append(open);
    }
    const rooms = element("div", "rooms");
    const shown = node.rooms.toSorted((a, b) => (b === room) - (a === room)).slice(0, 12);
    rooms.append(...shown.map((name) => element("span", name === room ? "room here" : "room", "#", bdi(name))));
    if (node.rooms.length > shown.length) rooms.append(element("span", "none", `and ${node.rooms.length - shown.length} more`));
    if (!node.rooms.length) rooms.append(element("span", "none", "no rooms"));
    made.append(top, rooms);
    return made;
  });
  const stopped = cluster.stopped.map((name) => {
    const start = element("button", "start", starting.has(name) ? "Starting node " : "Start node ", bdi(name));
    start.disabled = starting.has(name);
    start.dataset.key = `start ${name}`;
    start.addEventListener("click", () => startNode(name));
    const made = element("li", "node stopped", element("div", "top", element("span", "name", bdi(name)),
      element("span", "state", "stopped")), start);
    made.dataset.node = name;
    return made;
  });
  replaceKept($("nodes"), [...running, ...stopped]);
  // The room's chip flies from the node where it was to the one where it is.
  const chip = $("nodes").querySelector(".room.here");
  const after = chip?.getBoundingClientRect();
  if (before && after && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const [x, y] = [before.x - after.x, before.y - after.y];
    if (Math.hypot(x, y) > 40) {
      chip.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 600, easing: "ease-in-out" });
    }
  }
}

function startNode(name) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: "start", name }));
  starting.add(name);
  showNodes();
  // It may fail to come up; then it can be asked for again.
  setTimeout(() => starting.delete(name) && showNodes(), 15000);
}

const atBottom = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 80;
const toBottom = () => $("scroll").scrollTo({ top: $("scroll").scrollHeight });

// ---- coming in ---------------------------------------------------------------------------------

function enter() {
  showUnread();
  $("room").textContent = room;
  $("enter").hidden = true;
  $("chat").hidden = false;
  showLink("down", "connecting…");
  connect();
  $("text").focus();
}

/** Browsers may forbid it; then the name is asked for again. */
function remember(name) {
  try {
    sessionStorage.setItem("user", name);
  } catch {
    // It is only a help.
  }
}

function remembered() {
  try {
    return sessionStorage.getItem("user") ?? "";
  } catch {
    return "";
  }
}

$("enter-form").addEventListener("submit", (event) => {
  event.preventDefault();
  room = $("enter-room").value.trim();
  user = $("enter-user").value.trim();
  if (!room || !user) return;
  remember(user);
  history.replaceState(null, "", `?${new URLSearchParams({ room, user })}`);
  enter();
});

room = (query.get("room") ?? "").trim();
user = (query.get("user") ?? "").trim();
if (room && user) {
  enter();
} else {
  $("enter").hidden = false;
  if (room) $("enter-room").value = room;
  $("enter-user").value = remembered();
  $("enter-user").focus();
}
