// Parse Server with LiveQuery in the same process, as its own command line starts the two.
//   node parse_relay.mjs URI DATABASE PORT APPLICATION MASTER_KEY

// Nobody else here writes a log. It makes the folder while it is imported.
process.env.PARSE_SERVER_LOGS_FOLDER = 'null';
const { ParseServer } = await import('parse-server');
const [uri, database, port, appId, masterKey] = process.argv.slice(2);
const databaseURI = new URL(uri);
databaseURI.pathname = database;
const { server } = await ParseServer.startApp({
  databaseURI: databaseURI.href,
  appId,
  masterKey,
  host: '127.0.0.1',
  port: Number(port),
  mountPath: '/parse',
  serverURL: `http://127.0.0.1:${port}/parse`,
  liveQuery: { classNames: ['Comment'] },
  startLiveQueryServer: true,
  silent: true,
});
// Who saves has one connection for all, which may be quiet for longer than Node waits.
server.keepAliveTimeout = 0;
// It would take leave on standard output, which nobody reads by then.
process.removeAllListeners('SIGTERM');
console.log(port);
