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
let cluster = { me: "", nodes: [] };
let status = null;
let moves = null;

/** Lines written here: not yet said, and said lately. */
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
  notice(`Node ${cluster.me} is silent; this page goes on with another one`);
  elsewhere();
}, 1000);

function hear(word) {
  switch (word.type) {
    case "lines": return hearLines(word);
    case "room": return hearRoom(word);
    case "cluster": return hearCluster(word);
    case "trouble": return trouble(`The room does not answer: ${word.message}. Your lines wait.`);
    case "error": return hearError(word);
    case "alive": return;
    case "bye":
      notice(`Node ${cluster.me} has left; this page goes on with another one`);
      cluster.nodes = cluster.nodes.filter((node) => node.name !== cluster.me);
      return elsewhere();
  }
}

function hearLines({ life: now, lines }) {
  attempts = 0;
  trouble("");
  if (now !== life) {
    if (life) notice("The room lost its node; its lines come back from the nodes that saw them");
    for (const line of document.querySelectorAll("#lines .line")) line.remove();
    [life, last, shown] = [now, 0, new Set()];
    // What only this page knows, since its node is gone too, is said again: the room knows ids.
    setTimeout(sayAgain, 1000);
  }
  const bottom = atBottom();
  for (const line of lines) {
    if (line.number <= last) continue;
    last = line.number;
    shown.add(line.id);
    $("lines").append(lineElement(line, $("lines").lastElementChild));
    if (pending.some(({ id }) => id === line.id)) {
      recent.push({ ...pending.find(({ id }) => id === line.id), at: Date.now() });
      pending = pending.filter(({ id }) => id !== line.id);
      sentAt = 0;
    }
  }
  for (const id of shown) {
    if (shown.size <= IDS) break;
    shown.delete(id);
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
  const count = word.moved?.count ?? 0;
  if (moves !== null && count > moves) {
    notice(`The room ${move(word.moved)}`);
  }
  moves = count;
  trouble("");
  showRoom();
  showPeople();
}

function move({ from, to, took }) {
  const ms = took / 1000;
  return `moved ${from} → ${to} in ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function hearCluster(word) {
  tellChanges(cluster.nodes, word.nodes);
  cluster = word;
  const alive = cluster.nodes
    .filter((node) => node.url && node.state === "alive" && node.name !== cluster.me)
    .map((node) => node.url);
  // Those known from before are tried last: a node that sees nobody may be the one that is wrong.
  others = [...new Set([...alive, ...others])].slice(0, 50);
  showLink("up", `this page is on node ${cluster.me}`);
  showNodes();
}

/** Says who came and who went, unless this page has just come itself. */
function tellChanges(before, now) {
  const names = (nodes) => nodes.map((node) => node.name);
  if (!before.length || !life) return;
  for (const name of names(now).filter((name) => !names(before).includes(name))) notice(`Node ${name} is here`);
  for (const name of names(before).filter((name) => !names(now).includes(name))) notice(`Node ${name} is gone`);
}

function hearError({ id, message }) {
  if (id && pending.some((line) => line.id === id)) {
    pending = pending.filter((line) => line.id !== id);
    sentAt = 0;
    showPending();
    send();
    return notice(`Not said: ${message}`);
  }
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
  if (pending.length >= PENDING) return trouble("Too many lines wait already; try again in a moment.");
  pending.push({ id: `${writer}-${++count}`, text });
  $("text").value = "";
  showPending();
  toBottom();
  send();
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});

$("leave").addEventListener("click", () => {
  $("confirm-title").textContent = `Make node ${cluster.me} leave?`;
  $("confirm").returnValue = "";
  $("confirm").showModal();
});

$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes" && socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: "leave" }));
  }
});

// ---- showing -----------------------------------------------------------------------------------

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Gives an element the hue of a node or of a writer: the same everywhere. */
function hued(made, name) {
  // Steps of the golden angle: names that differ a little get hues that differ much.
  const sum = [...name].reduce((sum, c) => (sum * 35 + c.codePointAt(0)) % 9973, 0);
  made.classList.add("hue");
  made.style.setProperty("--hue", (sum * 137.5) % 360);
  return made;
}

const badge = (node) => hued(element("span", "badge", `node ${node}`), node);

function lineElement(line, before) {
  const made = hued(element("li", "line"), line.user);
  Object.assign(made.dataset, { id: line.id, number: line.number, user: line.user, node: line.node, at: line.at });
  const follows = before?.dataset.user === line.user && before.dataset.node === line.node
    && line.at - before.dataset.at < 120000;
  if (!follows) {
    made.classList.add("first");
    const face = element("span", "face", [...line.user][0].toUpperCase());
    face.ariaHidden = "true";
    const who = element("div", "who");
    const at = new Date(line.at);
    const time = element("time", "", at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = at.toISOString();
    who.append(element("b", "", line.user), badge(line.node), time);
    made.append(face, who);
  }
  made.append(element("p", "text", line.text));
  return made;
}

function notice(text) {
  const bottom = atBottom();
  $("lines").append(element("li", "notice fresh", text));
  if (bottom) toBottom();
}

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
    made.append(element("p", "text", text));
    return made;
  }));
}

function showLink(state, text) {
  if ($("link").dataset.text !== text) {
    $("link").dataset.text = text;
    $("link").className = state;
    $("link").textContent = text;
    // The node that served this page is gone: loading it again works at the other one.
    if (state === "up" && url !== location.origin) {
      const there = element("a", "", "open it there");
      there.href = `${url}/?${new URLSearchParams({ room, user })}`;
      $("link").append(there);
    }
  }
  $("chat").classList.toggle("stale", state !== "up");
  showRoom();
  $("leave").disabled = state !== "up";
  $("leave").textContent = state === "up" ? `Make node ${cluster.me} leave` : "Make this node leave";
}

function showRoom() {
  if (!status) return;
  const place = cluster.nodes.flatMap((node) => node.rooms).find((place) => place.name === room);
  const node = hued(element("strong", "", `node ${status.here}`), status.here);
  const how = [place && `epoch ${place.epoch}`, status.moved && move(status.moved)].filter(Boolean);
  const runs = $("chat").classList.contains("stale") ? "was last seen on " : "runs on ";
  $("where").replaceChildren(runs, node, element("span", "", how.map((text) => ` · ${text}`).join("")));
}

function showPeople() {
  const people = Object.entries(status.members).flatMap(([node, users]) => users.map((name) => [name, node]));
  $("people").replaceChildren(...people.map(([name, node]) => {
    const made = element("li", "", name);
    made.append(badge(node));
    return made;
  }));
}

function showNodes() {
  const before = $("nodes").querySelector(".room.here")?.getBoundingClientRect();
  $("nodes").replaceChildren(...cluster.nodes.map((node) => {
    const made = hued(element("li", `node ${node.state}`), node.name);
    made.dataset.node = node.name;
    const me = node.name === cluster.me;
    made.classList.toggle("me", me);
    const top = element("div", "top");
    const state = node.state === "alive" ? (me ? "you are here" : "") : node.state;
    top.append(element("span", "name", node.name), element("span", "state", state));
    if (node.url) {
      const open = element("a", "", me ? "another window" : "open a window");
      open.href = `${node.url}/?${new URLSearchParams({ room })}`;
      open.target = "_blank";
      open.rel = "noopener";
      top.append(open);
    }
    const rooms = element("div", "rooms");
    const shown = node.rooms.toSorted((a, b) => (b.name === room) - (a.name === room)).slice(0, 12);
    rooms.append(...shown.map(({ name }) => element("span", name === room ? "room here" : "room", `#${name}`)));
    if (node.rooms.length > shown.length) rooms.append(element("span", "none", `and ${node.rooms.length - shown.length} more`));
    if (!node.rooms.length) rooms.append(element("span", "none", "no rooms"));
    made.append(top, rooms);
    return made;
  }));
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

const atBottom = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 80;
const toBottom = () => $("scroll").scrollTo({ top: $("scroll").scrollHeight });

// ---- coming in ---------------------------------------------------------------------------------

function enter() {
  document.title = `#${room}`;
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
