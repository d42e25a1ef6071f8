// The dashboard in a real browser, against a cluster of three nodes with 10,000 children: every view,
// an action with its dry run, a node that leaves while the page is open, a token, the node that serves
// the page going away, and not one error on the console.
//
//   cargo build --release --example admin
//   cd integration/browser && npm ci && node dashboard.mjs
//
// ADMIN: the program (default target/release/examples/admin). CHROMIUM: the browser (default
// /usr/bin/chromium). Screenshots go to target/screenshots/.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.ADMIN ?? `${root}target/release/examples/admin`;
const shots = `${root}target/screenshots`;
const CHILDREN = 10_000;
const WAIT = 30_000;
mkdirSync(shots, { recursive: true });

let at = "";
const step = (text) => console.log(`· ${(at = text)}`);
const check = (holds, text) => {
  if (!holds) throw new Error(text);
};

/** Starts the example and waits until its children run. */
async function launch(port, more) {
  const child = spawn(program, ["--http", `127.0.0.1:${port}`, ...more], { stdio: ["ignore", "pipe", "inherit"] });
  let told = "";
  child.stdout.on("data", (data) => (told += data));
  const end = Date.now() + 60_000;
  while (!/children started/.test(told)) {
    check(child.exitCode === null && Date.now() < end, `it did not start: ${told}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return child;
}

const stop = (child) => new Promise((resolve) => {
  child.on("exit", resolve);
  child.kill("SIGINT");
  setTimeout(() => child.kill("SIGKILL"), 15_000).unref();
});

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Nothing that keeps people out, as axe sees it: no serious, moderate or critical finding. */
async function accessible(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = found.violations.filter((one) => one.impact !== "minor");
  const told = grave.map((one) => `${one.impact} ${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
  check(grave.length === 0, `${what}: ${told.join("\n")}`);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const errors = [];
/** What the browser itself notes of requests that this test makes fail: a child that was stopped, a
 * node that was ended or has left, a token that is missing. */
const provoked = (text, url) => text.startsWith("Failed to load resource")
  && (/onerror|order_|nobody/.test(url) || at.startsWith("a node leaves") && /status of 404/.test(text) && /\/nodes\//.test(url) || /net::ERR_(CONNECTION|INCOMPLETE|EMPTY)|status of (401|502)/.test(text));
function watch(page) {
  page.setDefaultTimeout(WAIT);
  page.on("console", (message) => {
    const wrong = ["error", "warning"].includes(message.type());
    const url = decodeURI(message.location().url);
    if (wrong && !provoked(message.text(), url)) errors.push(`${message.text()} (${url}, ${at})`);
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  return page;
}

let cluster = await launch(18490, ["--children", String(CHILDREN), "--states", "--load", "300", "--moves", "60", "--actions", "6000"]);
const base = "http://127.0.0.1:18490/hub/";
try {
  const page = watch(await browser.newPage({ viewport: { width: 1280, height: 860 } }));
  const go = async (hash, heading) => {
    await page.goto(`${base}#/${hash}`);
    await page.getByRole("heading", { name: heading, exact: true }).first().waitFor();
  };
  const shot = (name) => page.screenshot({ path: `${shots}/dashboard-${name}.png` });

  step("the overview");
  await page.goto(base.slice(0, -1));
  check(page.url() === base, `the page is at its slash, not ${page.url()}`);
  await page.locator(".figures dd", { hasText: "10,000" }).waitFor();
  await page.locator("svg.ring circle.node").nth(2).waitFor();
  // Each of the three links, also the one between the two other nodes.
  await page.locator("svg.ring line.link.up").nth(2).waitFor({ state: "attached" });
  await page.waitForFunction(() => [...document.querySelectorAll("svg.ring text")].filter((text) => /^[\d.]+ [mµ]?s$/.test(text.textContent)).length === 3);
  await page.locator("svg.ring circle.dot").first().waitFor({ state: "attached" });
  await page.getByRole("row", { name: /^b/ }).getByText("alive").waitFor();
  await page.waitForFunction(() => /\d/.test(document.querySelectorAll(".figures dd")[2]?.textContent ?? ""));
  await shot("overview");

  step("errors are said and no old number passes for new; the focus stays; a click counts once");
  const twice = async (path) => {
    for (let n = 0; n < 2; n += 1) await page.waitForResponse((response) => response.url().includes(path));
  };
  await page.getByRole("button", { name: "Let b leave …" }).focus();
  await twice("nodes?limit");
  check(await page.evaluate(() => document.activeElement.getAttribute("aria-label")) === "Let b leave …", "the focus was lost");
  await page.route("**/nodes?*", (route) => route.fulfill({ status: 502, body: "bad gateway" }));
  await page.locator("#banner", { hasText: "what is shown is from" }).waitFor();
  check(await page.locator("main.stale").count() === 1, "old numbers are marked");
  await page.unroute("**/nodes?*");
  await page.locator("#banner").waitFor({ state: "hidden" });
  await page.goto(`${base}#/settings`);
  await page.getByText("ConsistentHashing").waitFor();
  await page.locator("a.skip").focus();
  await page.keyboard.press("Enter");
  check(page.url().endsWith("#/settings"), "the skip link left the view");
  check(await page.evaluate(() => document.activeElement.id) === "main", "the skip link leads to the content");
  await page.goto(`${base}#/children`);
  await page.getByText("1 to 50 of 10,000").waitFor();
  for (const name of ["Next", "Next", "Previous", "Previous"]) {
    await page.getByRole("button", { name }).dblclick();
    await twice("children?");
    const [shown, first] = await page.evaluate(() => [document.querySelector("[role=status]:not(#notice):not(#dialog-text)").textContent, document.querySelector("tbody a").textContent]);
    const from = Number(shown.split(" ")[0].replace(",", ""));
    check(from >= 1 && Number(first.split("/")[1]) === from - 1, `${first} is not the first of ${shown}`);
  }

  step("children: paging, search and filters over 10,000");
  await go("children", "Children");
  await page.getByText("1 to 50 of 10,000").waitFor();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("51 to 100 of 10,000").waitFor();
  await page.getByRole("link", { name: "tally/00050" }).waitFor();
  await page.getByLabel("Id contains").fill("tally/0123");
  await page.getByText("1 to 10 of 10", { exact: true }).waitFor();
  await page.getByLabel("Tag").fill("odd");
  await page.getByText("1 to 5 of 5", { exact: true }).waitFor();
  check((await page.locator("tbody tr").count()) === 5, "five rows");
  await shot("children");

  step("the way back leads to the page as it was left; what is selected stays so");
  await go("overview", "Nodes");
  await go("children", "Children");
  await page.getByLabel("Node").fill("b");
  const ofB = page.getByText(/^1 to 50 of 3,/);
  await ofB.waitFor();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText(/^51 to 100 of 3,/).waitFor();
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: "Why it is where it is" }).waitFor();
  await page.goBack();
  await page.getByText(/^51 to 100 of 3,/).waitFor();
  check(await page.getByLabel("Node").inputValue() === "b", "the filter was forgotten");
  await page.locator("tbody td").nth(1).dblclick({ position: { x: 12, y: 14 } });
  await twice("children?");
  check(await page.evaluate(() => String(getSelection()).trim()) === "tally", "the selection was lost");
  await page.locator(".held").waitFor();
  await page.evaluate(() => getSelection().empty());
  await page.locator(".held").waitFor({ state: "detached" });
  await go("overview", "Nodes");
  await go("children", "Children");
  await page.getByLabel("Id contains").fill("tally/0123");

  step("a child: why, state, and a move with its dry run first");
  await page.getByRole("link", { name: "tally/01231" }).click();
  await page.getByText(/The distribution puts it on|It was sent to/).waitFor();
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText(/"count":/).waitFor();
  await page.getByRole("button", { name: "Migrate …" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/would move from/).waitFor();
  await page.screenshot({ path: `${shots}/dashboard-dry-run.png` });
  await dialog.getByRole("button", { name: "Migrate tally/01231" }).click();
  await dialog.getByText(/tally\/01231 moved from/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("It was sent to").waitFor();
  await page.locator(".bar span.p-freeze").first().waitFor({ state: "attached" });
  // By its source and by its target, whichever node is asked.
  await page.locator("ol.log li", { hasText: "tally/01231 was handed over from" }).waitFor();
  await page.locator("ol.log li", { hasText: "tally/01231 came from" }).waitFor();
  await shot("child");

  step("a child is started with a hostile id, and stopped");
  await go("children", "Children");
  const id = "<img src=x onerror=alert(1)> & \"x\"/é";
  await page.getByRole("button", { name: "Start a child …" }).click();
  await dialog.getByLabel("Id").fill(id);
  await dialog.getByLabel("Id").press("Tab");
  await dialog.getByText(/would be started on/).waitFor();
  await dialog.getByRole("button", { name: "Start a child" }).click();
  await dialog.getByText(/was started on/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByLabel("Id contains").fill("onerror");
  await page.getByRole("link", { name: id }).click();
  await page.getByRole("heading", { name: id }).waitFor();
  check((await page.locator("main img").count()) === 0, "the id is text");
  await page.getByRole("button", { name: "Stop …" }).click();
  await dialog.getByText(/would be stopped for good/).waitFor();
  await dialog.getByRole("button", { name: /^Stop / }).click();
  await dialog.getByText(/was stopped for good/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("There is no such child.").waitFor();

  step("handovers, events, settings");
  await go("handovers", "Handovers");
  await page.getByRole("row", { name: /tally\/01231/ }).first().waitFor();
  await shot("handovers");
  await page.getByLabel("Child id").fill("tally/01231");
  await page.getByText("1 to 1 of 1", { exact: true }).waitFor();
  await page.getByLabel("Child id").fill("");
  await page.getByLabel("Status").selectOption("failed");
  await page.getByText("None that a node remembers.").waitFor();
  await go("events", "Events, the latest first");
  await page.locator("ol.log li").first().waitFor();
  await page.getByLabel("Contains").fill("handed over");
  await page.locator("ol.log li", { hasText: "was handed over" }).first().waitFor();
  await page.locator("ol.log li", { hasText: "(seen by b)" }).first().waitFor();
  await page.getByLabel("Seen by node").fill("c");
  await page.locator("ol.log li", { hasText: "(seen by b)" }).first().waitFor({ state: "detached" });
  await page.locator("ol.log li", { hasText: "(seen by c)" }).first().waitFor();
  await shot("events");
  await page.getByLabel("Seen by node").fill("nobody");
  await page.getByText('None: there is no node "nobody" in the cluster.').waitFor();
  check(await page.locator("#banner").isHidden(), "a name that nothing has is no trouble");
  await page.getByLabel("Seen by node").fill("");
  await page.getByLabel("Contains").fill("no event says this");
  await page.getByText("None with contains “no event says this”.").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByLabel("Contains").fill("handed over");
  await page.locator("ol.log li", { hasText: "was handed over" }).first().waitFor();
  await page.getByRole("button", { name: "Go on" }).click();
  await go("children", "Children");
  await page.getByLabel("Node").fill("nobody");
  await page.getByText("None: no node is named nobody.").waitFor();
  await page.getByLabel("Node").fill("");
  await go("settings", "Strategies");
  await page.getByText("ConsistentHashing").waitFor();
  await page.getByRole("cell", { name: "tally.add" }).waitFor();
  await shot("settings");

  step("dark, and on a phone");
  await page.getByRole("button", { name: /Theme/ }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  await go("overview", "Nodes");
  await page.locator("svg.ring circle.node").nth(2).waitFor();
  await shot("dark");
  await page.setViewportSize({ width: 375, height: 740 });
  for (const [hash, heading] of [["overview", "Nodes"], ["children", "Children"], ["handovers", "Handovers"], ["parked", "Parked states"], ["settings", "Settings"]]) {
    await go(hash, heading);
    await page.locator("main table, main svg, main p.quiet").first().waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(wide <= 0, `${hash} is ${wide} px too wide for a phone`);
  }
  await shot("phone");
  const long = `order_${"550e8400e29b41d4a716446655440000".repeat(7)}`;
  const started = await page.evaluate((id) => fetch("children", {
    method: "POST", headers: { "X-Actix-Hub": "1", "Content-Type": "application/json" }, body: JSON.stringify({ id, kind: "tally", args: null }),
  }).then((response) => response.status), long);
  check(started === 201, `status ${started}`);
  await page.goto(`${base}#/child/${long}`);
  await page.getByRole("button", { name: "Stop …" }).click();
  await dialog.getByText(/would be stopped for good/).waitFor();
  await page.screenshot({ path: `${shots}/dashboard-phone-dialog.png` });
  const [over, cancel] = await page.evaluate(() => {
    const [box, button] = [document.querySelector("dialog"), document.getElementById("dialog-cancel")];
    return [box.scrollWidth - box.clientWidth, button.scrollWidth - button.clientWidth];
  });
  check(over <= 0 && cancel <= 0, `the dialog is ${over} px too wide, its way out ${cancel}`);
  // The page hears that the child is gone when the dialog is closed and the button has the focus again.
  await page.route(/\/children\/order_[^/]*$/, async (route) => {
    if (route.request().method() === "GET") await new Promise((done) => setTimeout(done, 1500));
    await route.continue().catch(() => {});
  });
  await dialog.getByRole("button", { name: /^Stop / }).click();
  await dialog.getByText(/was stopped for good/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("There is no such child.").waitFor();
  check(await page.evaluate(() => document.activeElement !== document.body), "the focus fell off the page");
  await page.setViewportSize({ width: 1280, height: 860 });

  step("axe finds nothing on any view, in light, in dark, and on a phone");
  for (const theme of ["light", "dark"]) {
    while (await page.evaluate(() => document.documentElement.dataset.theme) !== theme) await page.getByRole("button", { name: /^Theme/ }).click();
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 860 });
      for (const [hash, heading] of [["overview", "Nodes"], ["children", "Children"], ["child/tally%2F01231", "Why it is where it is"], ["handovers", "Handovers"],
        ["parked", "Parked states"], ["events", "Events, the latest first"], ["settings", "Settings"]]) {
        await go(hash, heading);
        await page.locator("main table, main svg, main p.quiet, main ol.log").first().waitFor();
        await accessible(page, `${hash}, ${theme}, ${width} px`);
      }
      await go("children", "Children");
      await page.getByRole("button", { name: "Start a child …" }).click();
      await dialog.getByText(/would be started on/).waitFor();
      await accessible(page, `a dialog, ${theme}, ${width} px`);
      await dialog.getByRole("button", { name: "Cancel" }).click();
    }
  }
  await page.setViewportSize({ width: 1280, height: 860 });

  step("the nodes are sorted by a column; failed children and parked states are a click away; no frame is around the page");
  await go("overview", "Nodes");
  const nodesTable = page.locator("table", { hasText: "The nodes, as this one sees them" });
  const first = () => nodesTable.locator("tbody tr td:first-child").evaluateAll((cells) => cells.map((cell) => cell.textContent[0]).join(""));
  await nodesTable.locator("tbody tr").nth(2).waitFor();
  check(await first() === "abc", `by name: ${await first()}`);
  await nodesTable.getByRole("button", { name: "node", exact: true }).click();
  check(await first() === "cba", `turned round: ${await first()}`);
  await twice("nodes?limit");
  check(await first() === "cba", "the order was forgotten");
  check(await nodesTable.locator("th[aria-sort=descending]").textContent() === "node", "the order is told");
  await nodesTable.getByRole("button", { name: "node", exact: true }).press("Enter");
  check(await first() === "abc", "by the keyboard");
  await page.locator(".figures div", { hasText: "failed children" }).getByRole("link", { name: "0" }).click();
  await page.getByText("None with state failed.").waitFor();
  check(await page.getByLabel("State").inputValue() === "failed", "the filter is set");
  await page.keyboard.press("Tab");
  await page.evaluate(() => document.getElementById("main").focus());
  check(await page.evaluate(() => getComputedStyle(document.getElementById("main")).outlineStyle) === "none", "a frame is around the page");
  await go("overview", "Nodes");

  step("a node is drained, and takes children again");
  await go("overview", "Nodes");
  const rowB = page.getByRole("row", { name: /^b/ });
  await rowB.getByRole("button", { name: "Drain b …" }).click();
  await dialog.getByText(/would hand \d+ children over, take none, and stay in/).waitFor();
  await dialog.getByRole("button", { name: "Drain b", exact: true }).click();
  await dialog.getByText("b is drained: nothing is left on it.").waitFor({ timeout: 60_000 });
  await dialog.getByRole("button", { name: "Close" }).click();
  await rowB.locator(".state.drained").waitFor();
  await page.waitForFunction(() => document.activeElement !== document.body);
  await shot("drained");
  // Thousands of events of its children have come since.
  await go("events", "Events, the latest first");
  await page.getByLabel("Contains").fill("b is drained");
  await page.locator("ol.log li", { hasText: "b is drained: it hands its children over" }).first().waitFor();
  await page.goto(`${base}#/child/tally%2F01231`);
  await page.getByText("it is drained").waitFor();
  await page.getByRole("button", { name: "Migrate …" }).click();
  await dialog.getByRole("button", { name: "Cancel" }).waitFor();
  check(!(await dialog.locator("option").allTextContents()).some((text) => text.startsWith("b ")), "a drained node is offered");
  await dialog.getByRole("button", { name: /Cancel|Close/ }).click();
  await go("overview", "Nodes");
  // Its focus stays on the way back while the table is drawn anew.
  await rowB.getByRole("button", { name: "Let b take children again …" }).focus();
  await twice("nodes?limit");
  check(await page.evaluate(() => document.activeElement.getAttribute("aria-label")) === "Let b take children again …", "the focus was lost");
  await page.keyboard.press("Enter");
  await dialog.getByText("b would take children again.").waitFor();
  await dialog.getByRole("button", { name: "Let b take children again" }).click();
  await dialog.getByText("b takes children again.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await rowB.locator(".state.alive").waitFor();
  await rowB.getByRole("button", { name: "Drain b …" }).waitFor();

  step("what is left on a node that leaves is told, and it may stay");
  await page.route("**/nodes?*", async (route) => {
    const response = await route.fetch();
    const told = await response.json();
    const c = told.items.find((node) => node.name === "c");
    Object.assign(c, { state: "leaving", left: { children: 9, first: [{ child: "tally/<b>", reason: "its state is too large" }] } });
    await route.fulfill({ response, json: told });
  });
  const rowC = page.getByRole("row", { name: /^c/ });
  await rowC.getByText("9 left: tally/<b> (its state is too large), 8 more").waitFor();
  await rowC.getByRole("button", { name: "Let c stay …" }).click();
  await dialog.getByText("c does not leave; nothing would be done.").waitFor();
  await dialog.getByRole("button", { name: "Let c stay" }).click();
  await dialog.getByText("c did not leave; nothing was done.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await shot("leaving");
  await page.unroute("**/nodes?*");
  await rowC.getByRole("button", { name: "Let c stay …" }).waitFor({ state: "detached" });

  step("a node leaves while the page is open");
  await go("overview", "Nodes");
  await page.getByRole("row", { name: /^c/ }).getByRole("button", { name: "Leave …" }).click();
  await dialog.getByText(/would hand [\d]+ children over and leave/).waitFor();
  await dialog.getByRole("button", { name: "Let c leave" }).click();
  await dialog.getByText("c has left.").waitFor({ timeout: 60_000 });
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.waitForFunction(() => document.querySelectorAll("svg.ring circle.node").length === 2, null, { timeout: 60_000 });
  await page.locator(".figures dd", { hasText: "10,000" }).waitFor();
  const leaver = page.locator("#departed").getByRole("row", { name: /^c/ });
  await leaver.getByText("left", { exact: true }).waitFor();
  await leaver.getByText(/^[\d,]+ children moved$/).waitFor();
  await shot("left");

  step("the node that serves the page goes away: the page says so, and comes back with it");
  await stop(cluster);
  await page.getByText(/does not answer; what is shown is from/).waitFor();
  await page.locator("#others", { hasText: "if they serve this page at the same port: b" }).waitFor();
  await shot("stale");
  cluster = await launch(18490, ["--children", "5", "--moves", "0"]);
  await page.locator("#banner").waitFor({ state: "hidden" });
  await page.locator("svg.ring circle.node").nth(2).waitFor();
  await stop(cluster);

  step("a token is asked for, kept for the tab, and never in the address");
  const token = "0123456789-a-token";
  cluster = await launch(18490, ["--children", "5", "--token", token]);
  const guarded = watch(await browser.newPage());
  await guarded.goto(base);
  await guarded.getByLabel("Token").fill("wrong-wrong-wrong-wrong");
  await guarded.getByRole("button", { name: "Sign in" }).click();
  await guarded.getByLabel("Token").fill(token);
  await guarded.getByRole("button", { name: "Sign in" }).click();
  await guarded.locator("svg.ring circle.node").nth(2).waitFor();
  check(!guarded.url().includes(token), "the token is not in the address");

  await stop(cluster);

  /** The overview of a cluster with a fault, in full width and on a phone. */
  const faulty = async (fault, more, look) => {
    cluster = await launch(18490, ["--moves", "0", "--fault", fault, ...more]);
    const broken = watch(await browser.newPage({ viewport: { width: 1280, height: 860 } }));
    await broken.goto(base);
    await look(broken);
    await broken.screenshot({ path: `${shots}/dashboard-fault-${fault}.png`, fullPage: true });
    await broken.setViewportSize({ width: 375, height: 740 });
    const wide = await broken.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(wide <= 0, `with the fault ${fault} it is ${wide} px too wide for a phone`);
    await broken.screenshot({ path: `${shots}/dashboard-fault-${fault}-phone.png`, fullPage: true });
    await broken.close();
    await stop(cluster);
  };

  step("a broken link: whose messages go by whom");
  await faulty("link", ["--children", "20"], async (broken) => {
    await broken.getByRole("row", { name: /^b/ }).getByText(/reached by c.*messages to a go by c/).waitFor();
    await broken.getByRole("row", { name: /^a/ }).getByText("messages to b go by c").waitFor();
    await broken.locator("svg.ring text", { hasText: "by c" }).waitFor();
    check(await broken.locator("#waits").isHidden(), "nobody waits");
  });

  step("a node that cannot come in: who does not hear whom");
  await faulty("joiner", ["--children", "20"], async (broken) => {
    const late = broken.getByRole("row", { name: /^late/ });
    await late.getByText(/not in: .*c does not hear late/).waitFor();
    await late.getByText(/late does not hear c/).waitFor();
    await late.getByText("joining", { exact: true }).waitFor();
    await broken.locator(".figures div", { hasText: "joining" }).getByText("1", { exact: true }).waitFor();
    await broken.locator(".figures div", { hasText: /^nodes/ }).getByText("3", { exact: true }).waitFor();
    check(await late.getByRole("button").count() === 0, "it cannot be asked to leave");
  });

  step("a node that died stays in sight, and its event is found behind those of its children");
  await faulty("down", ["--children", "2000"], async (broken) => {
    const died = broken.locator("#departed").getByRole("row", { name: /^c/ });
    await died.getByText("down", { exact: true }).waitFor();
    await died.getByText(/^[\d,]+ children began anew$/).waitFor();
    await died.getByText(/\d s ago$/).waitFor();
    await broken.locator(".figures div", { hasText: "down in the last hour" }).getByText("1", { exact: true }).waitFor();
    await broken.waitForFunction(() => document.querySelectorAll("svg.ring circle.node").length === 2);
    await broken.goto(`${base}#/events`);
    await broken.getByLabel("Level").selectOption("error");
    await broken.locator("ol.log li.error", { hasText: "c is down; its children are started elsewhere (seen by b)" }).waitFor();
    await broken.screenshot({ path: `${shots}/dashboard-down-events.png` });
    await broken.goto(`${base}#/overview`);
    await died.getByText("down", { exact: true }).waitFor();
  });

  step("a node that waits for a seed: which, and why");
  await faulty("seed", ["--nodes", "1"], async (broken) => {
    await broken.locator("#waits", { hasText: /a waits to be taken into a cluster by \/memory\/nobody/ }).waitFor();
    await broken.getByRole("row", { name: /^a/ }).getByText("joining", { exact: true }).waitFor();
  });
  cluster = null;

  check(errors.length === 0, `on the console: ${errors.join("\n")}`);
  console.log("the dashboard is well");
} catch (error) {
  for (const context of browser.contexts()) {
    for (const page of context.pages()) await page.screenshot({ path: `${shots}/dashboard-failed.png` }).catch(() => {});
  }
  console.error(error, errors);
  process.exitCode = 1;
} finally {
  await browser.close();
  if (cluster) await stop(cluster);
}
