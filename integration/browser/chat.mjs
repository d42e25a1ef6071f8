// Three people in one chat room, each at another node of a real cluster, in a real browser. The
// room's node is stopped, the next one hangs for a while (SIGSTOP), and then one is killed with
// SIGKILL, while all of them write; those that went are started again. Everything written must be on
// all pages, once, in one order. Besides: rooms, links, what is unread, names of every length and
// direction, equal ones, phones, and what axe finds in each view.
//
//   cargo build --release --example chat_room
//   cd integration/browser && npm ci && node chat.mjs
//
// CHAT_ROOM: the program (default target/release/examples/chat_room). CHROMIUM: the browser
// (default /usr/bin/chromium). Screenshots go to target/screenshots/.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createServer } from "node:net";
import { chromium } from "playwright-core";
import { audit } from "./axe.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.CHAT_ROOM ?? `${root}target/release/examples/chat_room`;
const shots = `${root}target/screenshots`;
const LINES = 20;
const WAIT = 30_000;

const step = (text) => console.log(`· ${text}`);
const check = (holds, text) => {
  if (!holds) throw new Error(text);
};

/** Repeats `probe` until it gives something, or fails with what it gave last. */
async function until(what, probe, wait = WAIT) {
  const end = Date.now() + wait;
  let last;
  while (Date.now() < end) {
    last = await probe();
    if (last?.done) return last.value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not within ${wait} ms; last seen: ${JSON.stringify(last?.value ?? last)}`);
}

// ---- the cluster -------------------------------------------------------------------------------

function launch() {
  const launcher = spawn(program, [], { stdio: ["ignore", "pipe", "inherit"] });
  const told = { text: "" };
  launcher.stdout.on("data", (data) => {
    told.text += data;
    process.stdout.write(String(data).replaceAll(/^/gm, "    "));
  });
  const ended = new Promise((resolve) => launcher.on("exit", (code, signal) => resolve({ code, signal })));
  return { launcher, told, ended };
}

/** The node processes of the launcher, by name. */
function nodeProcesses(launcher) {
  const found = {};
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")[1];
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (Number(parent) === launcher.pid && line.includes("--name")) {
        found[line[line.indexOf("--name") + 1]] = Number(pid);
      }
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

// ---- the people --------------------------------------------------------------------------------

async function person(browser, name, url, options = {}, room = "lobby") {
  const context = await browser.newContext({ viewport: { width: 1120, height: 760 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(`${url}/?${new URLSearchParams({ room, user: name })}`);
  await page.waitForSelector("#link.up", { state: "attached", timeout: WAIT });
  return { name, page, complaints, written: [] };
}

/** Writes lines as somebody does who types fast. Never waits for the cluster. */
async function write(someone, count, about) {
  for (let index = 0; index < count; index += 1) {
    const text = `${someone.name}: ${about} ${index + 1}`;
    await someone.page.fill("#text", text);
    await someone.page.press("#text", "Enter");
    someone.written.push(text);
    await someone.page.waitForTimeout(15 + Math.random() * 30);
  }
}

const seen = ({ page }) => page.$$eval("#lines .line .text", (all) => all.map((line) => line.textContent));
const waiting = ({ page }) => page.$$eval("#pending .line", (all) => all.length);
/** The text of an element, or null if it is not there now. */
const textOf = (page, selector) => page.evaluate((selector) => document.querySelector(selector)?.textContent ?? null, selector);
const nodeOf = ({ page }) => textOf(page, "#link.up bdi");
const roomNode = ({ page }) => textOf(page, "#where strong bdi");
const runningNodes = ({ page }) => page.$$eval("#nodes .node.alive", (all) => all.map((node) => node.dataset.node));
const say = async ({ page, written }, text) => {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
  written.push(text);
};

/** All that was written is on every page, once, in one order, and each writer's lines in theirs. */
async function agree(people) {
  const all = people.flatMap(({ written }) => written).toSorted();
  const views = await until("all pages show every line", async () => {
    const views = await Promise.all(people.map(seen));
    const left = await Promise.all(people.map(waiting));
    const done = views.every((view) => view.length >= all.length) && left.every((count) => count === 0);
    return { done, value: done ? views : { shown: views.map((view) => view.length), left, of: all.length } };
  });
  for (const [index, view] of views.entries()) {
    const who = people[index].name;
    check(JSON.stringify(view.toSorted()) === JSON.stringify(all), `${who}'s page has lost or doubled a line`);
    check(JSON.stringify(view) === JSON.stringify(views[0]), `${who}'s page has another order`);
  }
  for (const { name, written } of people) {
    const own = views[0].filter((text) => written.includes(text));
    check(JSON.stringify(own) === JSON.stringify(written), `the lines of ${name} are not in their order`);
  }
  for (const { name, complaints } of people) check(!complaints.length, `${name}'s page: ${complaints}`);
  await orderOfNotices(people);
  return all.length;
}

/** The moves of the room stand at the same place on each page, and every other notice behind the line
 * after which it came. */
async function orderOfNotices(people) {
  const histories = await Promise.all(people.map(({ page }) => page.evaluate(() => {
    let before = "";
    const history = [];
    const strays = [];
    for (const item of document.querySelector("#lines").children) {
      if (item.dataset.id) {
        history.push(before = item.dataset.id);
      } else if (item.dataset.after !== before) {
        strays.push(item.textContent);
      }
    }
    return { history, strays };
  })));
  for (const [index, { history, strays }] of histories.entries()) {
    check(!strays.length, `${people[index].name}'s page has notices at another place: ${strays}`);
    check(JSON.stringify(history) === JSON.stringify(histories[0].history), `${people[index].name}'s page tells of moves elsewhere`);
  }
}

/** What a friend would be shown: a short talk after the move, on all sorts of screens. */
async function pictures(browser, url, people) {
  for (const [index, text] of [
    "So the room has moved, and we are all still here?",
    "Yes. I sat at the node that left; my page went to another one by itself.",
    "And everything that was said is still there, once and in order.",
  ].entries()) {
    await say(people[index], text);
    await people[0].page.waitForFunction((text) => document.querySelector("#lines").textContent.includes(text), text);
  }
  for (const [name, options] of Object.entries({
    light: { colorScheme: "light" },
    dark: { colorScheme: "dark" },
    phone: { colorScheme: "light", viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 },
  })) {
    const { page } = await person(browser, "guest", url, options);
    await page.waitForSelector(".line");
    await page.screenshot({ path: `${shots}/chat-${name}.png` });
    await page.context().close();
  }
  await people[0].page.screenshot({ path: `${shots}/chat-moved.png` });
}

// ---- what a page offers ------------------------------------------------------------------------

/** The page that asks for a name and a room. */
async function comingIn(browser, url) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 760 } });
  const page = await context.newPage();
  await page.goto(url);
  await page.getByRole("heading", { name: "Join a chat room" }).waitFor();
  await audit(page, "the page before one joins");
  await page.fill("#enter-user", "dora");
  await page.fill("#enter-room", "attic");
  await page.getByRole("button", { name: "Join" }).click();
  await page.waitForSelector("#link.up", { state: "attached", timeout: WAIT });
  check((await page.textContent("#chat h1")) === "#attic", "it is not the room that was asked for");
  await context.close();
}

/** A room that does not answer, and then a node that is gone, as the page says so. */
async function troubles(browser, url) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 760 } });
  const page = await context.newPage();
  let node = null;
  await page.routeWebSocket(/\/ws\?/, (socket) => {
    const server = socket.connectToServer();
    node = { say: (word) => socket.send(JSON.stringify(word)), go: () => Promise.all([server.close(), socket.close()]) };
  });
  await page.goto(`${url}/?${new URLSearchParams({ room: "attic", user: "dora" })}`);
  await page.waitForSelector("#link.up", { timeout: WAIT });
  node.say({ type: "trouble", message: "no answer within 2 s" });
  await page.getByRole("alert").filter({ hasText: "The room does not answer" }).waitFor();
  await audit(page, "a room that does not answer");
  await page.routeWebSocket(/\/ws\?/, (socket) => socket.close());
  await node.go();
  await page.waitForSelector("#link.down", { timeout: WAIT });
  await audit(page, "a page without a node");
  await page.screenshot({ path: `${shots}/chat-alone.png` });
  await context.close();
}

/** Rooms that one can go to and make, the links between them, and the dashboard. */
async function rooms(browser, urls) {
  const [ann, ben] = [await person(browser, "ann", urls[0], {}, "kitchen"), await person(browser, "ben", urls[1], {}, "hall")];
  for (const { page } of [ann, ben]) {
    for (const name of ["kitchen", "hall"]) await page.getByRole("link", { name: `#${name}`, exact: true }).waitFor({ timeout: WAIT });
  }
  await ann.page.getByRole("link", { name: "#hall", exact: true }).click();
  await ann.page.waitForSelector("#link.up", { state: "attached", timeout: WAIT });
  await say(ann, "I came by the link");
  await ben.page.locator(".line .text", { hasText: "I came by the link" }).waitFor({ timeout: WAIT });
  await ann.page.goBack();
  await ann.page.waitForSelector("#link.up", { state: "attached", timeout: WAIT });
  check((await ann.page.textContent("#chat h1")) === "#kitchen", "the way back does not lead to the room before");
  await ann.page.fill("#go-room", "a new room & more");
  await ann.page.press("#go-room", "Enter");
  await ann.page.locator("h1", { hasText: "#a new room & more" }).waitFor({ timeout: WAIT });
  await ben.page.getByRole("link", { name: "#a new room & more", exact: true }).waitFor({ timeout: WAIT });
  await ann.page.getByRole("link", { name: "Dashboard" }).click();
  await ann.page.locator(".figures dd").first().waitFor({ timeout: WAIT });

  await say(ben, "see https://example.org/a_(b)?q=1, (http://example.org/x). javascript:alert(1) and http://");
  const links = () => ben.page.$$eval(".line .text a", (all) => all.map((a) => [a.href, a.textContent, a.rel]));
  const found = await until("the addresses are links", async () => {
    const value = await links();
    return { done: value.length === 2, value };
  });
  check(JSON.stringify(found.map(([href]) => href)) === JSON.stringify(["https://example.org/a_(b)?q=1", "http://example.org/x"]), `other links: ${found}`);
  check(found.every(([href, text, rel]) => href === text && rel.includes("noopener")), `unsafe links: ${found}`);
  for (const { page } of [ann, ben]) await page.context().close();
}

/** What came while somebody read further up is counted and marked. */
async function unread(browser, urls) {
  const [ann, ben] = [await person(browser, "ann", urls[0], {}, "cellar"), await person(browser, "ben", urls[1], {}, "cellar")];
  for (let index = 1; index <= 40; index += 1) await say(ben, `before ${index}`);
  await until("ann has all of it", async () => ({ done: (await seen(ann)).length === 40, value: await seen(ann) }));
  check(await ann.page.isHidden("#unread"), "what came into view counts as unread");
  await ann.page.evaluate(() => document.querySelector("#scroll").scrollTo(0, 0));
  for (let index = 1; index <= 3; index += 1) await say(ben, `after ${index}`);
  await ann.page.getByRole("button", { name: "3 new messages" }).waitFor({ timeout: WAIT });
  check((await ann.page.title()).startsWith("(3) "), `the title says nothing: ${await ann.page.title()}`);
  check((await ann.page.evaluate(() => document.querySelector("#scroll").scrollTop)) === 0, "the view was moved");
  const marked = () => ann.page.evaluate(() => {
    const mark = document.querySelector("#lines .unread");
    return [mark?.previousElementSibling, mark?.nextElementSibling].map((line) => line?.querySelector(".text").textContent);
  });
  check(JSON.stringify(await marked()) === JSON.stringify(["before 40", "after 1"]), `the mark is elsewhere: ${await marked()}`);
  await audit(ann.page, "the room with unread messages");
  await ann.page.screenshot({ path: `${shots}/chat-unread.png` });
  await ann.page.getByRole("button", { name: "3 new messages" }).click();
  await ann.page.waitForSelector("#unread", { state: "hidden", timeout: WAIT });
  check(!(await ann.page.title()).startsWith("("), "the title still counts");
  check(JSON.stringify(await marked()) === JSON.stringify(["before 40", "after 1"]), "the mark went before it was read");
  check((await ben.page.$$("#lines .unread")).length === 0, "who writes at the end has nothing unread");
  for (const { page } of [ann, ben]) await page.context().close();
}

/** Whatever is shown lies within the page, and no name changes the direction of what stands around it. */
async function layout({ page }, what) {
  const wrong = await page.evaluate(() => {
    const found = [];
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
    for (const one of document.querySelectorAll("#chat *")) {
      if (!one.checkVisibility() || one.closest(".unseen, option")) continue;
      const box = one.getBoundingClientRect();
      let clip = one.parentElement;
      while (clip && getComputedStyle(clip).overflowX === "visible") clip = clip.parentElement;
      const end = Math.min(width, clip ? clip.getBoundingClientRect().right : width);
      const isCut = clip && getComputedStyle(clip).textOverflow === "ellipsis";
      if (box.width && !isCut && (box.right > end + 1 || box.left < -1)) found.push(`${one.tagName}#${one.id}.${one.className} ${Math.round(box.right)} of ${Math.round(end)}`);
    }
    // Words of ours run from left to right, whatever stands before them.
    const walker = document.createTreeWalker(document.querySelector("#chat"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const letters = [...node.data.matchAll(/[a-z]/gi)];
      if (letters.length < 2 || node.parentElement.closest("bdi, b, .text, textarea") || !node.parentElement.checkVisibility()) continue;
      const box = (at) => {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + 1);
        return range.getBoundingClientRect();
      };
      const [first, second] = [box(letters[0].index), box(letters[1].index)];
      if (first.width && Math.abs(first.top - second.top) < 2 && second.left < first.left) found.push(`"${node.data}" runs backwards`);
    }
    return found;
  });
  check(!wrong.length, `${what}: ${wrong.join("; ")}`);
}

/** Rooms, people and nodes with long names, equal ones, and such as turn the direction of writing. */
async function names(browser, urls) {
  const turned = "\u202egnol yrev";
  const long = { room: `${turned}${"r".repeat(28)}`, user: `שלום${"u".repeat(26)}` };
  const people = [
    await person(browser, long.user, urls[0], {}, long.room),
    await person(browser, turned, urls[1], {}, long.room),
    await person(browser, turned, urls[2], {}, long.room),
  ];
  const texts = [`${"x".repeat(300)}`, "שלום לכולם, see https://example.org/", "\u202eturned", "of an equal name"];
  for (const [index, text] of texts.entries()) {
    await say(people[index % 3], text);
    await people[0].page.locator(".line .text", { hasText: text }).waitFor({ timeout: WAIT });
  }
  await agree(people);
  for (const size of [{ width: 1120, height: 760 }, { width: 390, height: 780 }, { width: 320, height: 600 }]) {
    await people[0].page.setViewportSize(size);
    await layout(people[0], `long names at ${size.width} px`);
    await people[0].page.screenshot({ path: `${shots}/chat-names-${size.width}.png` });
    if (size.width > 800) continue;
    await people[0].page.getByRole("button", { name: "Rooms and nodes" }).click();
    await layout(people[0], `the panel with long names at ${size.width} px`);
    await people[0].page.screenshot({ path: `${shots}/chat-names-panel-${size.width}.png` });
    await people[0].page.getByRole("button", { name: "Back to the chat" }).click();
  }
  await people[0].page.setViewportSize({ width: 1120, height: 760 });
  // Two of one name, one after the other: each has a head of its own.
  await say(people[1], "first of two");
  await people[2].page.locator(".line .text", { hasText: "first of two" }).waitFor({ timeout: WAIT });
  await say(people[2], "second of two");
  await agree(people);
  const heads = await people[0].page.$$eval(".line.first", (all) => all.map((line) => line.querySelector(".text").textContent));
  check(heads.includes("first of two") && heads.includes("second of two"), `two people look like one: ${heads}`);
  const members = await people[0].page.$$eval("#people bdi", (all) => all.map((one) => one.textContent));
  check(members.filter((name) => name === turned).length === 2, `both are in the room: ${members}`);
  await audit(people[0].page, "a room with long names");
  for (const { page } of people) await page.context().close();
}

/** A phone shows messages first; rooms and nodes are one tap away. */
async function phone(browser, url) {
  const guest = await person(browser, "guest", url, { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 });
  await guest.page.waitForSelector(".line");
  const height = await guest.page.evaluate(() => document.querySelector("#scroll").getBoundingClientRect().height);
  check(height > 780 * 0.7, `messages have ${height} of 780 px`);
  await layout(guest, "a phone");
  await guest.page.getByRole("button", { name: "Rooms and nodes" }).click();
  await guest.page.getByRole("link", { name: "#lobby", exact: true }).waitFor();
  check(await guest.page.isHidden("#text"), "both are shown at once");
  await layout(guest, "the panel of a phone");
  await audit(guest.page, "the panel of a phone", ["light at 390 px", "dark at 390 px"]);
  await guest.page.screenshot({ path: `${shots}/chat-phone-panel.png` });
  await guest.page.getByRole("button", { name: "Back to the chat" }).click();
  await guest.page.waitForSelector("#text", { state: "visible" });
  await guest.page.context().close();
}

/** Nodes of one long name, started by hand. One signal ends one of them, two at once the other. */
async function equalNodes(browser, told, urls, friend) {
  const name = `\u202e${"n".repeat(61)}`;
  const seed = told.text.match(/^\[a\] page on .* --seed (\S+)/m)[1];
  const ports = await Promise.all([0, 1].map(() => new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  })));
  const nodes = ports.map((port) => spawn(program, ["node", "--name", name, "--http", `127.0.0.1:${port}`, "--seed", seed], { stdio: ["ignore", "ignore", "inherit"] }));
  const ends = nodes.map((node) => new Promise((resolve) => node.on("exit", (code, signal) => resolve({ code, signal }))));
  try {
    await until("both are there", async () => {
      const value = (await runningNodes(friend)).filter((one) => one === name);
      return { done: value.length === 2, value };
    });
    const guest = await until("a page of one of them", async () => {
      const answer = await fetch(`http://127.0.0.1:${ports[0]}/api/cluster`).catch(() => null);
      return answer?.ok ? { done: true, value: await person(browser, "guest", `http://127.0.0.1:${ports[0]}`) } : { done: false };
    });
    await guest.page.waitForSelector(".line");
    check((await guest.page.$$("#nodes .node.me")).length === 1, "a page is on one node");
    for (const [size, who] of [[1120, guest], [390, guest]]) {
      await who.page.setViewportSize({ width: size, height: 780 });
      await layout(who, `nodes of one long name at ${size} px`);
      await who.page.screenshot({ path: `${shots}/chat-nodes-${size}.png` });
    }
    await guest.page.setViewportSize({ width: 1120, height: 760 });
    await guest.page.getByRole("button", { name: "Stop node" }).click();
    await layout(guest, "the question whether a node of a long name stops");
    await guest.page.getByRole("button", { name: "Cancel" }).click();
    await guest.page.context().close();
  } catch (error) {
    for (const node of nodes) node.kill("SIGKILL");
    throw error;
  }
  nodes[0].kill("SIGTERM");
  nodes[1].kill("SIGTERM");
  nodes[1].kill("SIGTERM");
  const slow = setTimeout(() => nodes.forEach((node) => node.kill("SIGKILL")), 45_000);
  for (const end of await Promise.all(ends)) check(end.code === 0, `a node ended with ${JSON.stringify(end)}`);
  clearTimeout(slow);
  await until("they are gone", async () => {
    const value = await runningNodes(friend);
    return { done: !value.includes(name), value };
  });
}

/** Starts a node again from somebody's page. */
async function bringBack(someone, name, told) {
  const before = told.text.split(`node ${name} is started again`).length;
  await someone.page.getByRole("button", { name: `Start node ${name}` }).click({ timeout: WAIT });
  await until(`node ${name} is back`, async () => {
    const value = await runningNodes(someone);
    return { done: value.includes(name), value };
  });
  check(told.text.split(`node ${name} is started again`).length === before + 1, "the launcher did not start it");
}

// ---- the story ---------------------------------------------------------------------------------

async function story(browser, launcher, told) {
  const urls = await until("the launcher names three pages", () => {
    const urls = [...told.text.matchAll(/^\s+node \S+\s+(http:\/\/[^/]+)\//gm)].map((found) => found[1]);
    const up = [...told.text.matchAll(/^\[\S+\] page on/gm)].length;
    return { done: urls.length === 3 && up === 3, value: urls };
  });
  const people = [];
  for (const [index, name] of ["ann", "ben", "cleo"].entries()) people.push(await person(browser, name, urls[index]));
  await until("every page knows three nodes", async () => {
    const counts = await Promise.all(people.map(({ page }) => page.$$eval("#nodes .node a", (all) => all.length)));
    return { done: counts.every((count) => count === 3), value: counts };
  });

  await people[0].page.screenshot({ path: `${shots}/chat-begin.png` });

  step("the page before one joins, and in trouble; rooms, and links");
  await comingIn(browser, urls[2]);
  await troubles(browser, urls[2]);
  await rooms(browser, urls);
  step("what is unread");
  await unread(browser, urls);
  step("long names, equal names, names from right to left");
  await names(browser, urls);

  step("three people write at three nodes");
  await Promise.all(people.map((someone) => write(someone, LINES, "hello")));
  step(`${await agree(people)} lines, the same on all pages`);

  const leaving = await roomNode(people[0]);
  const leaver = await until("somebody sits at the room's node", async () => {
    for (const someone of people) if ((await nodeOf(someone)) === leaving) return { done: true, value: someone };
    return { done: false, value: leaving };
  });
  const sitter = leaver.page;
  await sitter.getByRole("button", { name: `Stop node ${leaving}` }).click();
  await audit(sitter, "the question whether a node stops");
  await sitter.getByRole("button", { name: "Cancel" }).click();
  step(`node ${leaving} runs the room; ${leaver.name} stops it, and all go on writing`);
  const busy = Promise.all(people.map((someone) => write(someone, LINES, "while it leaves")));
  // In one go: while the question is open, its page takes no other keys, and this person is writing.
  await leaver.page.evaluate(() => {
    document.querySelector("#leave").click();
    document.querySelector("#confirm button[value=yes]").click();
  });
  await until("the launcher tells that the node has left", () => ({ done: told.text.includes(`node ${leaving} has left`), value: told.text }));
  await busy;
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);
  check((await roomNode(people[0])) !== leaving, "the room still claims to be on the node that left");
  for (const someone of [...people, await person(browser, "guest", urls[people.findIndex((someone) => someone !== leaver)])]) {
    const notices = await until("the room's move is a line of its history", async () => {
      const value = await someone.page.$$eval(".notice", (all) => all.map((one) => one.textContent));
      return { done: value.some((text) => text.startsWith(`The room moved from node ${leaving} to node `)), value };
    });
    check(notices.length > 0, "there are notices");
    if (!people.includes(someone)) await someone.page.context().close();
  }

  await audit(people[0].page, "a room with a node that is stopped");
  await phone(browser, urls[people.findIndex((someone) => someone !== leaver)]);
  await pictures(browser, urls[people.findIndex((someone) => someone !== leaver)], people);

  step(`node ${leaving} is started again`);
  await bringBack(people.find((someone) => someone !== leaver), leaving, told);
  for (const someone of people) await say(someone, `${someone.name}: welcome back`);
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);

  const hung = await roomNode(people[0]);
  const pid = nodeProcesses(launcher)[hung];
  const stuck = [];
  for (const someone of people) if ((await nodeOf(someone)) === hung) stuck.push(someone);
  step(`node ${hung} runs the room now; it hangs, and all go on writing`);
  process.kill(pid, "SIGSTOP");
  await Promise.all(people.map((someone) => write(someone, LINES, "while it hangs")));
  for (const someone of stuck) {
    await until(`${someone.name}'s page goes on with another node`, async () => {
      const node = await nodeOf(someone);
      return { done: Boolean(node) && node !== hung, value: node };
    });
  }
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);
  process.kill(pid, "SIGCONT");
  await until(`node ${hung} is back`, async () => {
    const names = await runningNodes(people[0]);
    return { done: names.length === 3 && names.includes(hung), value: names };
  });
  step(`it is back; ${await agree(people)} lines, the same on all pages`);

  const lost = await roomNode(people[0]);
  step(`node ${lost} runs the room now; it is killed with SIGKILL, and all go on writing`);
  const writing = Promise.all(people.map((someone) => write(someone, LINES, "while it dies")));
  process.kill(nodeProcesses(launcher)[lost], "SIGKILL");
  await writing;
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);

  const forgot = await people[0].page.$$eval(".notice", (all) => all.map((one) => one.textContent));
  check(forgot.some((text) => text.startsWith("The room lost its node")), `no page tells that the room began anew: ${forgot}`);

  step(`node ${lost} is started again`);
  await bringBack(people[0], lost, told);
  for (const someone of people) await say(someone, `${someone.name}: and again`);
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);

  step("two nodes of one long name come; one signal ends one of them, two at once the other");
  await equalNodes(browser, told, urls, people[0]);
  step(`${await agree(people)} lines, the same on all pages`);
}

mkdirSync(shots, { recursive: true });
const { launcher, told, ended } = launch();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
let failure = null;
try {
  await story(browser, launcher, told);
} catch (error) {
  failure = error;
}
await browser.close();
const left = Object.values(nodeProcesses(launcher));
// Twice at once, as `timeout` does: a node that ends is not killed by it.
launcher.kill("SIGTERM");
launcher.kill("SIGTERM");
const slow = setTimeout(() => launcher.kill("SIGKILL"), 45_000);
const end = await ended;
clearTimeout(slow);
const alive = left.filter((pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
});
if (!failure && (end.code !== 0 || alive.length || /was killed/.test(told.text))) {
  failure = new Error(`the launcher ended with ${JSON.stringify(end)}, nodes still alive: ${alive}`);
}
console.log(failure ? `FAILED: ${failure.stack}` : "· all nodes ended, none is left; passed");
process.exit(failure ? 1 : 0);
