// Keeps every RTCPeerConnection and WebSocket of the page with what became of it, in `connections`.
window.connections = { peers: [], sockets: [] };

window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...all) {
    super(...all);
    const record = { pc: this, states: [] };
    this.addEventListener("connectionstatechange", () => record.states.push(this.connectionState));
    window.connections.peers.push(record);
  }
};

window.WebSocket = class extends WebSocket {
  constructor(...all) {
    super(...all);
    const record = { url: this.url, closeCode: null };
    this.addEventListener("close", ({ code }) => {
      record.closeCode = code;
    });
    window.connections.sockets.push(record);
  }
};
