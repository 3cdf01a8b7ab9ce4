// A relay with the `ws` package, as its README broadcasts: one change stream, JSON once, `send` to each client.
//   node ws_relay.mjs URI DATABASE
import { MongoClient } from 'mongodb';
import { WebSocketServer, WebSocket } from 'ws';

const [uri, database] = process.argv.slice(2);
const client = await new MongoClient(uri).connect();
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', backlog: 4096 });
server.on('listening', () => console.log(server.address().port));
const stream = client.db(database).collection('comments').watch([], { fullDocument: 'updateLookup' });
for await (const change of stream) {
  const data = Buffer.from(JSON.stringify({ change: change.operationType, doc: change.fullDocument }));
  for (const socket of server.clients) {
    if (socket.readyState === WebSocket.OPEN) socket.send(data, { binary: false });
  }
}
