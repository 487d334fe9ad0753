// The local ufrag of the candidate pair that carries the media, from a report of getStats().
//
// Not the remote one: Chromium may pair a new local candidate with the remote candidate that it remembers from before the
// restart, and then goes on checking with the old credentials.
window.selectedLocalUfrag = (report) =>
  report.get(window.selectedPair(report)?.localCandidateId)?.usernameFragment ?? null;

// The candidate pair that carries the media.
window.selectedPair = (report) => {
  const transport = [...report.values()].find((entry) => entry.type === "transport");
  return report.get(transport?.selectedCandidatePairId);
};

// "udp" or "tcp": how it reaches the server.
window.selectedProtocol = (report) =>
  report.get(window.selectedPair(report)?.remoteCandidateId)?.protocol ?? null;
