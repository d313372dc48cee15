--[[
Claim the oldest queued rollouts and start one attempt for each.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] worker_id       claiming worker; "" when anonymous
ARGV[4] lease           seconds as text; "" when there is none
ARGV[5] queue_count     number of queues
ARGV[6..] names         names of the queues, first come first, then one fresh attempt id per rollout wanted
Returns {more, wait, rollouts}: more is 1 when the call should be sent again with another token, because deadlines are
still due or void entries still in the way; wait is the seconds, as text, until something may become claimable by itself, ""
when nothing will; rollouts with their attempts, see shared/replies.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include health
--@include replies
--@include repeats
local given, token, worker_id, lease, queue_count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local names = ARGV
local MOST_VOID = 1000
local failure = open(given, "always")
if failure then
  return failure
end
local claims = {}
local answer = answered(token)
if answer then
  for id in string.gmatch(answer, "[^,]+") do
    claims[#claims + 1] = rollout_reply(id)
  end
  return { 0, "", claims }
end
local more = settle_due(SETTLE_MANY)
more = ready_retries(SETTLE_MANY) == SETTLE_MANY or more

local void, last = 0, nil
local function next_rollout(name)
  while void < MOST_VOID do
    local id = redis.call("LPOP", key("queue", name))
    local rollout = id and read_rollout(id)
    if not id then
      return nil
    elseif rollout and QUEUED[rollout.status] then
      return rollout
    elseif rollout then
      change(rollout, "queued", nil)
      write(rollout)
    end
    void = void + 1
  end
  more = true
  return nil
end

local ids, wanted = {}, 6 + queue_count
for i = 6, 5 + queue_count do
  while wanted <= #names do
    local rollout = next_rollout(names[i])
    if not rollout then
      break
    end
    if redis.call("EXISTS", key("attempt", rollout.id .. ":" .. names[wanted])) == 1 then
      -- The fresh id is taken by another call: put the entry back, and let the client come again with other ids.
      redis.call("LPUSH", key("queue", names[i]), rollout.id)
      more = true
      break
    end
    last = { rollout, begin_attempt(rollout, names[wanted], worker_id, lease) }
    change(rollout, "queued", nil)
    write(rollout)
    log_event(rollout, last[2], "claimed")
    ids[#ids + 1] = rollout.id
    wanted = wanted + 1
  end
  -- Tokens are hints: trim what is too many, and make sure that entries left behind wake somebody.
  local live = tonumber(redis.call("HGET", key("stats"), "queue:" .. names[i]) or "0")
  local tokens = redis.call("LLEN", key("wake", names[i]))
  if tokens > live then
    redis.call("LTRIM", key("wake", names[i]), tokens - live, -1)
  elseif tokens == 0 then
    offer(names[i], live)
  end
end

if worker_id ~= "" then
  local worker = open_worker(worker_id)
  change(worker, "dequeue", now_text)
  if last then
    set_worker(worker, "busy", last[1].id, last[2].id)
  elseif worker.status ~= "idle" and not more then
    set_worker(worker, "idle", nil, nil)
  end
  write(worker)
end
if last then
  remember(token, table.concat(ids, ","))
end
for i, id in ipairs(ids) do
  claims[i] = rollout_reply(id)
end
local due = redis.call("ZRANGE", key("deadlines"), 0, 0, "WITHSCORES")[2]
local ready = redis.call("ZRANGE", key("delayed"), 0, 0, "WITHSCORES")[2]
local soonest = earliest(tonumber(due or ""), tonumber(ready or ""))
local wait = soonest and soonest < math.huge and text_of(math.max(0, soonest - now)) or ""
return { more and 1 or 0, wait, claims }
