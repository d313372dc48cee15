--[[
Mark the spans of the oldest finished rollouts as evicted, the oldest finish first; drop_spans.lua drops them then. What
was marked by a call whose client died before it dropped them is answered again.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           of the eviction, the same for all of its calls
ARGV[3] dropped         the last completion whose spans the client has dropped; "" = none
ARGV[4] limit           most completions to look at; 0 ends the eviction
Returns {last, rollouts}: the last completion that was looked at, "" when there is none; per rollout whose spans are to
be dropped {rollout_id, 1 if this call has marked it, attempt_ids}.
Errors: SCHEMA_MISMATCH.
]]
--@include attempt_lists
--@include clock
--@include cursors
--@include finishes
--@include keys
--@include records
--@include replies
--@include rollouts
--@include status
--@include steps
local given, token, dropped, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local failure = open(given, "always")
if failure then
  return failure
end
end_steps(token)
local done = redis.call("HGET", META, "evicted") or "0-0"
if dropped ~= "" and is_before(done, dropped) then
  redis.call("HSET", META, "evicted", dropped)
  done = dropped
end

local function evict(rollout)
  local marked = rollout.stored ~= nil
  -- On a Cluster, attempts that are not marked may have spans that do not count yet.
  local last = marked and -1 or tonumber(rollout.evicted) - 1
  local attempts = ids_of_attempts(rollout.id, rollout.latest, last)
  if marked then
    redis.call("HINCRBY", key("stats"), "spans", "-" .. rollout.stored)
    change(rollout, "stored", nil)
    change(rollout, "evicted", tostring(#attempts))
    write(rollout)
  end
  return { rollout.id, marked and 1 or 0, attempts }
end

local last, rollouts, lowest = "", {}, lowest_consumer()
if limit > 0 and (not lowest or is_before(done, lowest)) then
  for _, entry in ipairs(redis.call("XRANGE", key("completed"), "(" .. done, lowest or "+", "COUNT", limit)) do
    local rollout = read_rollout(field_of(entry[2], "rollout"))
    last = entry[1]
    local is_last = rollout and FINISHED[rollout.status] and last_finish(rollout) == last
    if is_last and (rollout.stored or rollout.evicted) then
      rollouts[#rollouts + 1] = evict(rollout)
    end
  end
end
if #rollouts > 0 then
  begin_steps(token)
end
return { last, rollouts }
