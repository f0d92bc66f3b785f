/** WeChat's own compiler, as DevTools runs it, over every wxml and wxss; it exits with its first complaint. */
import path from 'node:path';
import compiler from 'miniprogram-compiler';

const source = path.resolve(import.meta.dirname, '../../miniprogram');
compiler.wxmlToJs(source);
compiler.wxssToJs(source);
