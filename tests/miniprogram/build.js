/**
 * Builds the unmodified mini-program into a web page: node build.js OUTPUT_DIRECTORY
 *
 * Modules and templates go into bundle.js as functions, so that the page needs no eval.
 */
import { fileURLToPath } from 'node:url';
import fs from 'node:fs';
import path from 'node:path';
import { TmplGroup } from 'glass-easel-template-compiler';

const here = fileURLToPath(new URL('.', import.meta.url)); // import.meta.dirname is not in Node 18
const source = path.resolve(here, '../../miniprogram');
const output = path.resolve(process.argv[2]);
const read = (file) => fs.readFileSync(path.join(source, file), 'utf8');
const files = fs.readdirSync(source, { recursive: true }).map((file) => file.replaceAll(path.sep, '/')).sort();
const ending = (suffix) => files.filter((file) => file.endsWith(suffix));

function compiledTemplates() {
  const group = new TmplGroup();
  for (const file of ending('.wxml')) {
    const warnings = group.addTmpl(file.slice(0, -'.wxml'.length), read(file));
    // A missing end tag is only a warning here; WeChat's own compiler refuses it.
    if (warnings.length > 0) throw new Error(`${file}: ${warnings.map((warning) => JSON.stringify(warning)).join('\n')}`);
  }
  return group.getTmplGenObjectGroups();
}

function wrappedModule(file) {
  return `${JSON.stringify(file)}(require, module, exports, wx, App, Page, Component, getApp) {\n${read(file)}\n}`;
}

function css(wxss) {
  return wxss.replace(/(-?[\d.]+)rpx/g, 'calc($1 * 100vw / 750)');
}

fs.mkdirSync(output, { recursive: true });
const configs = Object.fromEntries(ending('.json').map((file) => [file, JSON.parse(read(file))]));
fs.writeFileSync(path.join(output, 'bundle.js'), [
  `export const modules = {${ending('.js').map(wrappedModule).join(',\n')}};`,
  `export const templates = ${compiledTemplates()};`,
  `export const configs = ${JSON.stringify(configs)};`,
].join('\n'));

const sheets = ending('.wxss').map((file) => file.replaceAll('/', '-').replace('.wxss', '.css'));
ending('.wxss').forEach((file, index) => fs.writeFileSync(path.join(output, sheets[index]), css(read(file))));
const links = ['host.css', ...sheets].map((sheet) => `<link rel="stylesheet" href="${sheet}">`).join('\n');
fs.writeFileSync(path.join(output, 'index.html'), `<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Credit Ledger</title>
${links}
<body>
<script type="module" src="host.js"></script>
</body>
</html>
`);

for (const file of ['host.js', 'host.css', 'wx.js']) fs.copyFileSync(path.join(here, file), path.join(output, file));
const dist = (name, file) => fs.readFileSync(path.join(here, 'node_modules', name, 'dist', file), 'utf8');
fs.writeFileSync(path.join(output, 'glass-easel.js'), dist('glass-easel', 'glass_easel.dev.all.es.js'));
fs.writeFileSync(path.join(output, 'adapter.js'),
  dist('glass-easel-miniprogram-adapter', 'glass_easel_miniprogram_adapter.es.js').replaceAll('from"glass-easel"', 'from"./glass-easel.js"'));
