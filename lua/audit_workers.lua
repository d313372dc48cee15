--[[
Look at workers: listed, and holding what their status says.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4..] worker_ids    the workers
Returns findings, see shared/findings.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include findings
--@include keys
--@include records
--@include status
local given, repair, token = ARGV[1], ARGV[2], ARGV[3]
local worker_ids = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)

-- What it holds is not known any more; its next sign of life tells.
local function clear(worker)
  change(worker, "status", worker.status == IDLE and IDLE or UNKNOWN)
  change(worker, "rollout", nil)
  change(worker, "attempt", nil)
  write(worker)
end

for i = 4, #worker_ids do
  local id = worker_ids[i]
  local worker = read(key("worker", id))
  if worker then
    local holds = (worker.rollout and 1 or 0) + (worker.attempt and 1 or 0)
    local allowed = { [BUSY] = { [2] = true }, [IDLE] = { [0] = true }, [UNKNOWN] = { [0] = true, [2] = true } }
    if not (allowed[worker.status] or {})[holds] then
      find("worker", id, "is " .. (worker.status or "without status") .. " and holds " .. (worker.rollout or "nothing"),
        function() clear(worker) end)
    end
    if not redis.call("ZSCORE", key("workers"), id) then
      find("worker", id, "is missing from the index workers", function()
        redis.call("ZADD", key("workers"), redis.call("HINCRBY", META, "number", 1), id)
      end)
    end
  end
end
return end_findings(token)
