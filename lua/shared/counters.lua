--@include findings
--@include keys
--@include status
-- Counters of the namespace, and whether anything has changed that they count.

-- A text that stays the same as long as no rollout is made, removed or moved and no span stored.
local function state_of_counters()
  local flat, parts = redis.call("HGETALL", key("stats")), {}
  for i = 1, #flat, 2 do
    parts[#parts + 1] = flat[i] .. "=" .. flat[i + 1]
  end
  table.sort(parts)
  local event = redis.call("XREVRANGE", key("events"), "+", "-", "COUNT", 1)[1]
  for _, part in ipairs({ redis.call("HGET", META, "number") or "", redis.call("ZCARD", key("rollouts")),
    redis.call("ZCARD", key("delayed")), event and event[1] or "" }) do
    parts[#parts + 1] = part
  end
  return table.concat(parts, " ")
end

local function counter(field)
  return tonumber(redis.call("HGET", key("stats"), field) or "0")
end

local function check_counter(field, true_one)
  local value = counter(field)
  if value ~= true_one then
    find("counter", field, "is " .. tostring(value) .. ", in truth " .. true_one, function()
      redis.call("HSET", key("stats"), field, true_one)
    end)
  end
end

-- All that waits is in the indexes of its statuses, so the counters have a sum that can be told at once.
local function check_total()
  local flat, sum, total = redis.call("HGETALL", key("stats")), 0, 0
  for i = 1, #flat, 2 do
    sum = sum + (string.find(flat[i], ":", 1, true) and tonumber(flat[i + 1]) or 0)
  end
  for status in pairs(QUEUED) do
    total = total + redis.call("ZCARD", key("status", status))
  end
  if sum ~= total then
    find("counter", "queues", "have " .. sum .. " rollouts together, in truth " .. total)
  end
end
