-- Sends ready-made signed webhooks in turn. The file named by the first argument has a line "signature<TAB>body" each;
-- the second argument, where there is one, is the value of the `Connection` header.
local requests, turn = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local signature, body = line:match("^(%S+)\t(.*)$")
    local headers = { ["Content-Type"] = "application/json", ["X-Sharegram-Signature"] = signature }
    headers["Connection"] = arguments[2]
    requests[#requests + 1] = wrk.format("POST", "/webhooks/sharegram", headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "p50Ms": %f, "p99Ms": %f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, failed))
end
