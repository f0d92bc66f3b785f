/** Stands in for Node's `crypto`, which nacl-fast.js asks for as it loads: see ../README.md. */
module.exports = {};
