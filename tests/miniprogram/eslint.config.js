import wxmlParser from '@wxml/parser';
import wxml from 'eslint-plugin-wxml';
import js from '@eslint/js';

const names = (text) => Object.fromEntries(text.split(' ').map((name) => [name, 'readonly']));
const timers = 'console setTimeout';
const strict = { eqeqeq: ['error', 'always', { null: 'ignore' }], 'no-var': 'error', 'prefer-const': 'error' };

export default [
  // What others wrote stays as they published it.
  { ignores: ['**/node_modules/**', 'miniprogram/vendor/**'] },
  {
    files: ['miniprogram/**/*.js'],
    ...js.configs.recommended,
    languageOptions: {
      sourceType: 'commonjs',
      ecmaVersion: 2020,
      globals: names(`${timers} wx App Page getApp`),
    },
    rules: { ...js.configs.recommended.rules, ...strict },
  },
  {
    files: ['tests/miniprogram/*.js'],
    languageOptions: {
      sourceType: 'module',
      ecmaVersion: 2024,
      globals: names(`${timers} process performance fetch crypto AbortSignal Buffer structuredClone URL URLSearchParams
        window document location localStorage matchMedia innerHeight scrollY FormData createImageBitmap btoa`.replace(/\s+/g, ' ')),
    },
    rules: { ...js.configs.recommended.rules, ...strict },
  },
  {
    files: ['miniprogram/**/*.wxml'],
    plugins: { wxml },
    languageOptions: { parser: wxmlParser },
    rules: Object.fromEntries([
      'report-wxml-syntax-error', 'report-interpolation-error', 'no-duplicate-attributes', 'wx-key', 'no-index-in-wx-key',
      'no-dynamic-wx-key', 'no-wx-for-with-wx-if', 'no-wx-for-with-wx-else', 'no-wx-if-string',
      'no-unexpected-string-bool', 'no-inconsistent-tagname', 'no-vue-directive', 'no-inline-wxs', 'no-unnecessary-block',
    ].map((rule) => [`wxml/${rule}`, 'error'])),
  },
];
