const session = require('./utils/session');
const { sentenceFor } = require('./utils/failure');

App({
  onLaunch() {
    // A start without a network is no failure yet: the page shows the last known credit, and its own
    // requests log in again when they need to. sentenceFor() throws on whatever is not foreseen.
    session.launch().catch(sentenceFor);
  },
});
