/** WeChat's own compiler, as DevTools runs it, over every wxml and wxss; it exits with its first complaint. */
import { fileURLToPath } from 'node:url';
import compiler from 'miniprogram-compiler';

const source = fileURLToPath(new URL('../../miniprogram', import.meta.url));
compiler.wxmlToJs(source);
compiler.wxssToJs(source);
