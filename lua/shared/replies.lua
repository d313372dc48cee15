--@include flat
--@include keys
-- Records as replies: hashes flat as HGETALL gives them, free-form values apart; "" stands for none.
local function field_of(flat, field)
  for i = 1, #flat, 2 do
    if flat[i] == field then
      return flat[i + 1]
    end
  end
end

-- A record as HGETALL gives it.
local function flat_of(record)
  return with_fields({ nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, record)
end

-- {attempt_id, fields, metadata}; from the attempt's record if it is at hand.
local function attempt_reply(rollout_id, id, attempt)
  local name = rollout_id .. ":" .. id
  local flat = attempt and flat_of(attempt) or redis.call("HGETALL", key("attempt", name))
  return { id, flat, redis.call("GET", key("attempt_metadata", name)) or "" }
end

-- {rollout_id, fields, task, metadata, attempt or ""}
local function join_reply(id, flat, attempt)
  local values = redis.call("MGET", key("task", id), key("metadata", id))
  return { id, flat, values[1] or "", values[2] or "", attempt }
end

-- A rollout as it is stored, "" when there is no such rollout. The attempt is the latest one, unless another is given:
-- a repeat answers with the attempt that its call has started, whoever has the rollout now.
local function rollout_reply(id, attempt_id)
  local flat = redis.call("HGETALL", key("rollout", id))
  if #flat == 0 then return "" end
  local shown = attempt_id or field_of(flat, "latest")
  return join_reply(id, flat, shown and attempt_reply(id, shown) or "")
end

-- A rollout whose attempt has just begun, and so has no metadata, from the records at hand.
local function begun_reply(rollout, attempt)
  return join_reply(rollout.id, flat_of(rollout), { attempt.id, flat_of(attempt), "" })
end

-- {worker_id, fields, stats}; "" when there is no such worker.
local function worker_reply(id)
  local flat = redis.call("HGETALL", key("worker", id))
  return #flat > 0 and { id, flat, redis.call("GET", key("worker_stats", id)) or "" } or ""
end
