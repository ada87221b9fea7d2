/**
 * Builds the page into dist/: one script, the style, the page itself, and the licences of what the
 * script contains. index.html comes last, so that a build that failed is no page.
 */

import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";

import { build } from "esbuild";

/** Packages that come without the text of their licence, and where we keep it. */
const KEPT_LICENCES = { "@niivue/niivue": "notices/niivue.txt" };

await rm("dist", { recursive: true, force: true });
await mkdir("dist");
const { metafile } = await build({
  entryPoints: ["src/main.ts", "src/style.css"],
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  outdir: "dist",
  metafile: true,
  logLevel: "warning",
});
await writeFile("dist/THIRD_PARTY_NOTICES.txt", await collectNotices(bundledPackages(metafile)));
await copyFile("src/index.html", "dist/index.html");

/** Returns the names of the packages of which the built files contain something. */
function bundledPackages({ inputs }) {
  const names = Object.keys(inputs).map(
    (path) => path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1],
  );
  return [...new Set(names.filter((name) => name !== undefined))].sort();
}

/** Returns name, version and licence of packages; fails where the text of a licence is missing. */
async function collectNotices(packages) {
  const notices = packages.map(async (name) => {
    const folder = `node_modules/${name}`;
    const { version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
    const own = (await readdir(folder)).find((file) => /^licen[cs]e(\.|$)/i.test(file));
    const path = own === undefined ? KEPT_LICENCES[name] : `${folder}/${own}`;
    if (path === undefined) throw new Error(`${name}: found no text of its licence, ${license}`);
    return `${name} ${version} (${license})\n\n${(await readFile(path, "utf8")).trim()}\n`;
  });
  const title = "main.js contains parts of these packages.\n";
  return [title, ...(await Promise.all(notices))].join(`\n${"-".repeat(80)}\n\n`);
}
