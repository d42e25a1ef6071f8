// What axe-core finds wrong with a view, in light, in dark and on a phone.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MODES = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  "light at 390 px": { colorScheme: "light", size: { width: 390, height: 780 } },
  "dark at 390 px": { colorScheme: "dark", size: { width: 390, height: 780 } },
};

/** Fails with whatever is worse than minor. `modes`: those in which the view is there. */
export async function audit(page, view, modes = Object.keys(MODES)) {
  const size = page.viewportSize();
  const found = [];
  await page.evaluate(source);
  for (const mode of modes) {
    await page.emulateMedia({ colorScheme: MODES[mode].colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize(MODES[mode].size ?? size);
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    if (!passes.length) found.push(`${mode}: nothing was looked at`);
    for (const { id, impact, nodes } of violations.filter(({ impact }) => impact !== "minor")) {
      found.push(`${mode}: ${impact}: ${id}: ${nodes.map(({ target, any }) => `${target} ${any[0]?.message ?? ""}`).join(", ")}`);
    }
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await page.setViewportSize(size);
  if (found.length) throw new Error(`axe on ${view}:\n${found.join("\n")}`);
}
