/**
 * Runs the built mini-program in a browser: what WeChat does around app.js and the pages.
 *
 * The address chooses the user: index.html?login=dev-ann. A test's own handle is window.host.
 */
import { glassEasel, MiniProgramEnv } from './adapter.js';
import { configs, modules, templates } from './bundle.js';
import { api, createWx } from './wx.js';

/** WeChat's tags that the browser has under another name. */
const TAGS = { image: 'img' };

glassEasel.globalOptions.writeIdToDOM = true;
glassEasel.globalOptions.throwGlobalError = true;
const backend = new glassEasel.CurrentWindowBackendContext();
backend.document = {
  createElement(tag) {
    const element = document.createElement(TAGS[tag] ?? tag);
    if (tag === 'button') element.type = 'button'; // In WeChat only form-type="submit" submits.
    return element;
  },
  createTextNode: (text) => document.createTextNode(text),
  createDocumentFragment: () => document.createDocumentFragment(),
};
const dispatch = (target, type, detail, options) =>
  glassEasel.Event.dispatchEvent(target, new glassEasel.Event(type, detail, options));
backend.onEvent(dispatch);

const env = new MiniProgramEnv();
const codeSpace = env.createCodeSpace('', true);
const associated = env.associateBackend(backend);

const cache = {};
const files = new Map();
const stack = [];
const top = () => stack[stack.length - 1];

function load(path, globals = {}) {
  if (cache[path]) return cache[path].exports;
  const module = (cache[path] = { exports: {} });
  const require = (name) => load(`${new URL(name, `http://code/${path}`).pathname.slice(1)}.js`);
  const { App, Page, Component } = globals;
  modules[path].call(undefined, require, module, module.exports, wx, App, Page, Component, () => app);
  return module.exports;
}

/** setData crosses threads in WeChat: what JSON cannot carry gets lost there, so it is an error here. */
function checked(key, value) {
  const kind = typeof value;
  if (kind === 'undefined' || kind === 'function' || (kind === 'number' && !Number.isFinite(value))) {
    throw new TypeError(`setData: ${key || 'the data'} is ${value}`);
  }
  return value;
}

function open(path) {
  codeSpace.addComponentStaticConfig(path, configs[`${path}.json`]);
  codeSpace.addCompiledTemplate(path, { groupList: templates, content: templates[path], fallbackListenerOnNativeNode: true });
  if (!cache[`${path}.js`]) codeSpace.componentEnv(path, (globals) => load(`${path}.js`, globals));
  const element = document.body.appendChild(document.createElement('page'));
  const placeholder = element.appendChild(document.createElement('view'));
  const root = associated.createRoot('page-root', codeSpace, path);
  const page = root.get();
  const setData = page.setData;
  page.setData = (data, done) => setData.call(page, JSON.parse(JSON.stringify(data, checked)), done);
  if (top()) { top().element.hidden = true; top().page.onHide?.(); }
  stack.push({ path, page, root, element });
  root.attach(element, placeholder);
  drawWindow();
  page.onLoad?.({});
  page.onShow?.();
  page.onReady?.();
}

function close() {
  const { page, root, element } = stack.pop();
  page.onUnload?.();
  root.release();
  element.remove();
}

function back() {
  if (stack.length < 2) throw new Error('cannot navigate back at first page');
  close();
  top().element.hidden = false;
  drawWindow();
  top().page.onShow?.();
}

function reLaunch(path) {
  while (stack.length > 0) close();
  open(path);
}

/** The title bar, and only the style sheets of app and current page: WeChat gives each page its own. */
function drawWindow() {
  const { path } = top();
  const theme = configs['theme.json'][matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'];
  const settings = { ...configs['app.json'].window, ...configs[`${path}.json`] };
  const themed = (value) => (value.startsWith('@') ? theme[value.slice(1)] : value);
  header.firstChild.hidden = stack.length < 2;
  header.lastChild.textContent = settings.navigationBarTitleText;
  header.style.color = themed(settings.navigationBarTextStyle);
  header.style.background = themed(settings.navigationBarBackgroundColor);
  document.body.style.background = themed(settings.backgroundColor);
  const own = `${path.replaceAll('/', '-')}.css`;
  for (const link of document.querySelectorAll('link[href^="pages-"]')) link.disabled = link.getAttribute('href') !== own;
}

async function compressImage({ src, quality = 80, compressedWidth }) {
  const bitmap = await createImageBitmap(files.get(src));
  const canvas = document.createElement('canvas');
  canvas.width = compressedWidth ?? bitmap.width;
  canvas.height = Math.round((bitmap.height * canvas.width) / bitmap.width);
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, 'image/jpeg', quality / 100); });
  return { tempFilePath: keep(blob) };
}

function keep(blob) {
  const path = `wxfile://tmp_${files.size}`;
  files.set(path, blob);
  return path;
}

async function readFile({ filePath, encoding }) {
  if (encoding !== 'base64') throw new Error(`encoding ${encoding}`);
  const bytes = new Uint8Array(await files.get(filePath).arrayBuffer());
  return { data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')) };
}

function showToast({ title, duration = 1500 }) {
  const toast = document.body.appendChild(document.createElement('div'));
  toast.className = 'toast';
  toast.textContent = title;
  if (!window.host.toastsStay) setTimeout(() => toast.remove(), duration);
}

/** WeChat's own question over the page: it takes no confirmText of more than four characters. */
function showModal({ title, content, confirmText = '确定', cancelText = '取消' }) {
  if (confirmText.length > 4) throw new Error('confirmText length should not larger than 4 Chinese characters');
  const dialog = document.body.appendChild(document.createElement('dialog'));
  dialog.append(document.createElement('h3'), document.createElement('p'));
  dialog.firstChild.textContent = title;
  dialog.lastChild.textContent = content;
  dialog.showModal();
  return new Promise((resolve) => {
    for (const [label, confirm] of [[cancelText, false], [confirmText, true]]) {
      const button = dialog.appendChild(document.createElement('button'));
      button.textContent = label;
      button.onclick = () => { dialog.remove(); resolve({ confirm, cancel: !confirm }); };
    }
  });
}

function chooseAvatar(button) {
  const input = document.createElement('input');
  input.type = 'file';
  input.onchange = () => dispatch(button.__wxElement, 'chooseavatar', { avatarUrl: keep(input.files[0]) });
  input.click();
}

function submit(form) {
  dispatch(form.__wxElement, 'submit', { value: Object.fromEntries(new FormData(form)) });
}

let app;
const header = document.body.appendChild(document.createElement('header'));
header.append(document.createElement('button'), document.createElement('span'));
header.firstChild.textContent = '‹';
header.firstChild.onclick = back;

let wx = null; // load() hands it to every module but config.js, which says where the service is.
const { baseUrl } = load('config.js');
wx = {
  ...createWx({
    baseUrl,
    origin: location.origin,
    storage: localStorage,
    codePrefix: new URLSearchParams(location.search).get('login'),
  }),
  compressImage: api('compressImage', compressImage),
  getFileSystemManager: () => ({ readFile: api('readFile', readFile) }),
  navigateTo: api('navigateTo', ({ url }) => open(url.slice(1))),
  navigateBack: api('navigateBack', back),
  reLaunch: api('reLaunch', ({ url }) => reLaunch(url.slice(1))),
  showModal: api('showModal', showModal),
  showToast: api('showToast', showToast),
  stopPullDownRefresh: () => { delete document.body.dataset.pulled; },
};

document.addEventListener('submit', (event) => event.preventDefault());
document.addEventListener('click', ({ target }) => {
  const button = target.closest('button:not([disabled])');
  if (button?.getAttribute('open-type') === 'chooseAvatar') chooseAvatar(button);
  if (button?.getAttribute('form-type') === 'submit') submit(button.closest('form'));
});
let reached = 0; // The bottom that was told of last; a page that grows has a new one.
document.addEventListener('scroll', () => {
  const bottom = document.documentElement.scrollHeight;
  if (innerHeight + scrollY < bottom - 50) reached = 0;
  else if (reached !== bottom) { reached = bottom; top().page.onReachBottom?.(); }
});

window.host = {
  /** The pull-down gesture; the mark stays until the page says that it is done. */
  pullDown() {
    if (!configs[`${top().path}.json`].enablePullDownRefresh) throw new Error('this page has no pull-down');
    document.body.dataset.pulled = 'yes';
    top().page.onPullDownRefresh();
  },
  /** All that the pages have handed to their templates. */
  pageData: () => stack.map(({ page }) => page.data),
  /** Set by who looks at a toast: it would be gone after a moment, whether it was looked at or not. */
  toastsStay: false,
};

load('app.js', { App: (definition) => { app = definition; } });
app.onLaunch();
open(configs['app.json'].pages[0]);
