--@include keys
-- Places in the completion log.

-- Whether one entry comes before another; both are of the form milliseconds-number.
local function is_before(a, b)
  local milliseconds, number = string.match(a, "(%d+)-(%d+)")
  local other_milliseconds, other_number = string.match(b, "(%d+)-(%d+)")
  if milliseconds ~= other_milliseconds then
    return tonumber(milliseconds) < tonumber(other_milliseconds)
  end
  return tonumber(number) < tonumber(other_number)
end

-- The last entry that all consumers have passed; nil when there is no consumer.
local function lowest_consumer()
  local flat, lowest = redis.call("HGETALL", key("consumers")), nil
  for i = 2, #flat, 2 do
    local cursor = string.match(flat[i], "^%S+")
    if not lowest or is_before(cursor, lowest) then
      lowest = cursor
    end
  end
  return lowest
end
