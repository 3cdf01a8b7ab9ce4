// A relay with Socket.IO, as its documentation broadcasts to a room: one change stream, `emit` to the room.
//   node socketio_relay.mjs URI DATABASE
import { createServer } from 'node:http';
import { MongoClient } from 'mongodb';
import { Server } from 'socket.io';

const [uri, database] = process.argv.slice(2);
const client = await new MongoClient(uri).connect();
const http = createServer();
// Without compression, like everyone else here; polling first would only make the connecting longer.
const server = new Server(http, { transports: ['websocket'], perMessageDeflate: false });
server.on('connection', (socket) => socket.join('project'));
http.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => console.log(http.address().port));
const stream = client.db(database).collection('comments').watch([], { fullDocument: 'updateLookup' });
for await (const change of stream) {
  server.to('project').emit('change', { change: change.operationType, doc: change.fullDocument });
}
