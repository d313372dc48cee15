--[[
Mark those of the given workers unknown that gave no sign of life for long.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] silent          seconds of silence as text
ARGV[3..] worker_ids    the workers
Returns the ids of those that were marked, in the order given.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
--@include records
--@include status
local given, silent = ARGV[1], tonumber(ARGV[2])
local worker_ids = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local marked = {}
for i = 3, #worker_ids do
  local worker = read(key("worker", worker_ids[i]))
  if worker and worker.status ~= UNKNOWN then
    local seen = 0
    for _, sign in ipairs({ "beat", "dequeue", "busy", "idle" }) do
      seen = math.max(seen, tonumber(worker[sign] or "0"))
    end
    if now - seen > silent then
      change(worker, "status", UNKNOWN)
      write(worker)
      marked[#marked + 1] = worker_ids[i]
    end
  end
end
return marked
