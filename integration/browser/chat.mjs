// Three people in one chat room, each at another node of a real cluster, in a real browser. The
// room's node is made to leave, the next one hangs for a while (SIGSTOP), and then one is killed with
// SIGKILL, while all of them write. Everything written must be on all pages, once, in one order.
//
//   cargo build --release --example chat_room
//   cd integration/browser && npm ci && node chat.mjs
//
// CHAT_ROOM: the program (default target/release/examples/chat_room). CHROMIUM: the browser
// (default /usr/bin/chromium). Screenshots go to target/screenshots/.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

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

async function person(browser, name, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 760 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(`${url}/?${new URLSearchParams({ room: "lobby", user: name })}`);
  await page.waitForSelector("#link.up", { timeout: WAIT });
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
const nodeOf = async ({ page }) => (await page.textContent("#link")).match(/node (\S+)/)?.[1];
const roomNode = async ({ page }) => (await page.textContent("#where")).match(/node ([^,\s]+)/)?.[1];

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
  return all.length;
}

/** What a friend would be shown: a short talk after the move, on all sorts of screens. */
async function pictures(browser, url, people) {
  for (const [index, text] of [
    "So the room has moved, and we are all still here?",
    "Yes. I sat at the node that left; my page went to another one by itself.",
    "And everything that was said is still there, once and in order.",
  ].entries()) {
    await people[index].page.fill("#text", text);
    await people[index].page.press("#text", "Enter");
    people[index].written.push(text);
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

  step("three people write at three nodes");
  await Promise.all(people.map((someone) => write(someone, LINES, "hello")));
  step(`${await agree(people)} lines, the same on all pages`);

  const leaving = await roomNode(people[0]);
  const leaver = await until("somebody sits at the room's node", async () => {
    for (const someone of people) if ((await nodeOf(someone)) === leaving) return { done: true, value: someone };
    return { done: false, value: leaving };
  });
  step(`node ${leaving} runs the room; ${leaver.name} makes it leave, and all go on writing`);
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
  const notices = await people[0].page.$$eval(".notice", (all) => all.map((one) => one.textContent));
  check(notices.some((text) => text.includes(`${leaving} → `)), `no page told of the move: ${notices}`);

  await pictures(browser, urls[people.findIndex((someone) => someone !== leaver)], people);

  const hung = await roomNode(people[0]);
  const pid = nodeProcesses(launcher)[hung];
  const stuck = [];
  for (const someone of people) if ((await nodeOf(someone)) === hung) stuck.push(someone);
  check(stuck.length, `nobody sits at node ${hung}, which runs the room`);
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
    const names = await people[0].page.$$eval("#nodes .node.alive", (all) => all.map((node) => node.dataset.node));
    return { done: names.length === 2 && names.includes(hung), value: names };
  });
  step(`it is back; ${await agree(people)} lines, the same on all pages`);

  const lost = await roomNode(people[0]);
  step(`node ${lost} runs the room now; it is killed with SIGKILL, and all go on writing`);
  const writing = Promise.all(people.map((someone) => write(someone, LINES, "while it dies")));
  process.kill(nodeProcesses(launcher)[lost], "SIGKILL");
  await writing;
  step(`${await agree(people)} lines, the same on all pages; the room runs on ${await roomNode(people[0])}`);
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
