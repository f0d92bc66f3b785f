/** The service takes no longer avatar than this, counted in characters of the data: URL. */
const MAX_CHARACTERS = 40000;

/**
 * Tried in turn while the picture is too large. The page shows it 160 rpx wide at most, some 80 points:
 * 240 pixels are enough for every screen.
 */
const SMALLER = [{ width: 240, quality: 80 }, { width: 132, quality: 60 }];

/** Formats by their first bytes, seen through base64: the temporary file's name need not tell. */
const FORMATS = [
  { start: /^iVBORw0KGgo/, type: 'image/png' },
  { start: /^\/9j\//, type: 'image/jpeg' },
  { start: /^UklGR.{6}XRUJQ/, type: 'image/webp' },
];

/** The picture cannot be the avatar; the message says why, for the user. */
class AvatarRefused extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'AvatarRefused';
  }
}

/**
 * @param {string} filePath
 * @returns {Promise<string>}
 */
function readBase64(filePath) {
  return new Promise((resolve, reject) => {
    wx.getFileSystemManager().readFile({
      filePath,
      encoding: 'base64',
      success: ({ data }) => resolve(String(data)),
      fail: () => reject(new AvatarRefused('读不到这张图片，请重新选择。')),
    });
  });
}

/** @param {string} filePath */
async function readDataUrl(filePath) {
  const base64 = await readBase64(filePath);
  const format = FORMATS.find(({ start }) => start.test(base64));
  if (!format) throw new AvatarRefused('头像只支持 PNG、JPEG 或 WebP 图片。');
  return `data:${format.type};base64,${base64}`;
}

/**
 * The picture behind `chooseAvatar` as the data: URL that the service stores: the temporary file lives
 * on this device only.
 * @param {string} filePath
 * @returns {Promise<string>}
 * @throws {AvatarRefused}
 */
async function avatarDataUrl(filePath) {
  let url = await readDataUrl(filePath);
  for (const { width, quality } of SMALLER) {
    if (url.length <= MAX_CHARACTERS) return url;
    const { tempFilePath } = await wx.compressImage({ src: filePath, quality, compressedWidth: width })
      .catch(() => { throw new AvatarRefused('这张图片无法压缩，请换一张。'); });
    url = await readDataUrl(tempFilePath);
  }
  if (url.length <= MAX_CHARACTERS) return url;
  throw new AvatarRefused('图片压缩后仍然太大，请换一张简单些的。');
}

module.exports = { AvatarRefused, avatarDataUrl };
