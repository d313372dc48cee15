--@include findings
--@include numbers
--@include records
-- The spans of a rollout: as many as their ids, and none beyond the number that it counts to. What was seen of them,
-- see span_facts.lua, may be older than what the rollout says now; but its count rises before its spans come, and
-- whether an attempt has begun since is told by their number. Returns how many spans are to be counted.
local function check_spans(rollout, attempt_ids, facts)
  local attempts, stored, known, last, gone = string.match(facts, "(.*),(.*),(.*),(.*),(.*)")
  if tonumber(attempts) == #attempt_ids and stored ~= known then
    find("spans", rollout.id, "has " .. stored .. " spans, and " .. known .. " ids of spans")
  end
  if string.match(last, "^%d+$") and is_greater(last, rollout.spans or "0") then
    find("spans", rollout.id, "has span " .. last .. ", and counts to " .. (rollout.spans or "0"), function()
      change(rollout, "spans", last)
      write(rollout)
    end)
  end
  return tonumber(stored) + tonumber(gone)
end
