/** What others wrote is in miniprogram/vendor as they published it, and loads where WeChat loads it. */
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import vm from 'node:vm';
import { SOURCE } from './device.js';

const PACKAGES = fileURLToPath(new URL('node_modules', import.meta.url));
const VENDOR = path.join(SOURCE, 'vendor');
const TAKEN = [
  ['tweetnacl', 'nacl-fast.js'], ['tweetnacl', 'nacl.d.ts', 'nacl-fast.d.ts'], ['tweetnacl', 'LICENSE'],
  ['fast-sha256', 'sha256.js'], ['fast-sha256', 'sha256.d.ts'], ['fast-sha256', 'LICENSE'],
];
const OURS = ['tweetnacl/crypto.js', 'README.md'];

test('every file is that of the npm package, byte for byte, and stands in the README with its hash', () => {
  const readme = fs.readFileSync(path.join(VENDOR, 'README.md'), 'utf8');
  for (const [name, file, here = file] of TAKEN) {
    const taken = fs.readFileSync(path.join(VENDOR, name, here));
    assert.ok(taken.equals(fs.readFileSync(path.join(PACKAGES, name, file))), `${name}/${here}`);
    if (file !== 'LICENSE') assert.ok(readme.includes(crypto.createHash('sha256').update(taken).digest('hex')), file);
    const { version, license } = JSON.parse(fs.readFileSync(path.join(PACKAGES, name, 'package.json'), 'utf8'));
    assert.ok(readme.includes(`${name} ${version}`), name);
    assert.equal(license, 'Unlicense');
  }
  const files = fs.readdirSync(VENDOR, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  assert.equal(files.length, TAKEN.length + OURS.length);
});

/** WeChat's `require` knows no modules of Node: it looks beside the file that asks; and there is no `self`. */
function loaded(file) {
  const module = { exports: {} };
  const require = (name) => loaded(path.join(path.dirname(file), name.endsWith('.js') ? name : `${name}.js`));
  const run = vm.runInNewContext(`(function (require, module, exports) { ${fs.readFileSync(file, 'utf8')}\n})`, {});
  run(require, module, module.exports);
  return module.exports;
}

test('it loads without a browser and without Node, and needs no BigInt', () => {
  const { sign } = loaded(path.join(VENDOR, 'tweetnacl/nacl-fast.js'));
  const { hash } = loaded(path.join(VENDOR, 'fast-sha256/sha256.js'));
  assert.equal(typeof sign.detached.verify, 'function');
  assert.equal(typeof hash, 'function');
  for (const file of fs.readdirSync(SOURCE, { recursive: true }).filter((name) => name.endsWith('.js'))) {
    // Comments may name it.
    const code = fs.readFileSync(path.join(SOURCE, file), 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
    assert.doesNotMatch(code, /\bBigInt\b|\b\d+n\b|BigUint64|\bsubtle\b/, file);
  }
});
