--@include findings
--@include records
--@include status
-- The record of one attempt.
--   is_listed  whether a list tells its number; if not, it may be the list that was lost
local function check_attempt(name, attempt, number, is_listed)
  local function mend(field, value)
    return function()
      change(attempt, field, value)
      write(attempt)
    end
  end
  if not ROLLOUT_AFTER_ATTEMPT[attempt.status or ""] or not tonumber(attempt.start or "") then
    find("record", name, "has no known status, or no start")
    return
  end
  if tonumber(attempt.number or "") ~= number then
    find("attempts", name, "is number " .. (attempt.number or "none") .. ", its place is " .. number,
      is_listed and mend("number", tostring(number)) or nil)
  end
  local lives = LIVE[attempt.status]
  if lives and attempt.cause then
    find("attempts", name, "is " .. attempt.status .. " with a cause of its end", mend("cause"))
  elseif not lives and not attempt.cause then
    find("attempts", name, "is " .. attempt.status .. " without a cause", mend("cause", CAUSE_OF_END[attempt.status]))
  end
  if STAMPS_END_TIME[attempt.status] and not attempt["end"] then
    find("record", name, "is " .. attempt.status .. " without an end")
  end
  if (attempt.reward == nil) ~= (attempt.reward_number == nil) then
    find("record", name, "has half a reward")
  end
end
