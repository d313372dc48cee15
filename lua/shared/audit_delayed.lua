--@include audit_lists
--@include counters
--@include findings
--@include keys
-- Counters of the retries that wait for their delay.
local function check_delayed()
  local sum, names = 0, {}
  local flat = redis.call("HGETALL", key("stats"))
  for i = 1, #flat, 2 do
    local name = string.match(flat[i], "^delayed:(.+)$")
    if name then
      names[name], sum = 0, sum + (tonumber(flat[i + 1]) or 0)
    end
  end
  local delayed = redis.call("ZCARD", key("delayed"))
  if delayed > COUNTED_AT_ONCE then
    if sum ~= delayed then
      find("counter", "delayed", "is " .. sum .. " for all queues, in truth " .. delayed)
    end
    return
  end
  for name, true_one in pairs(waiting_by_queue(redis.call("ZRANGE", key("delayed"), 0, -1), "")) do
    names[name] = true_one
  end
  for name, true_one in pairs(names) do
    check_counter("delayed:" .. name, true_one)
  end
end
