// The local ufrag of the candidate pair that carries the media, from a report of getStats().
//
// Not the remote one: Chromium may pair a new local candidate with the remote candidate that it remembers from before the
// restart, and then goes on checking with the old credentials.
window.selectedLocalUfrag = (report) => {
  const transport = [...report.values()].find((entry) => entry.type === "transport");
  const pair = report.get(transport?.selectedCandidatePairId);
  return report.get(pair?.localCandidateId)?.usernameFragment ?? null;
};
