-- What wrk sends for the benchmark: wrk ... -s wrk.lua URL -- WORK RUN PEOPLE KEY
-- RUN is a word that no other run against this server uses; PEOPLE a file of lines "user openid token"; KEY an API
-- key, and for the work `wechat` the query that says who is asking.
-- Requests are made here for every contender, so the load generator's own work is the same for those compared.
local all, threads = {}, 0
no_token = 0
sent = { grant = 0, rows = 0, spend = 0, hold = 0, capture = 0, register = 0 }

function setup(thread)
    thread:set("number", threads)
    all[#all + 1], threads = thread, threads + 1
end

-- Zipf: the person of rank n is asked for 1/n as often as the first.
local function zipf(count)
    local sums, sum = {}, 0
    for rank = 1, count do
        sum = sum + 1 / rank
        sums[rank] = sum
    end
    return function()
        local wanted, low, high = math.random() * sum, 1, count
        while low < high do
            local middle = math.floor((low + high) / 2)
            if sums[middle] < wanted then low = middle + 1 else high = middle end
        end
        return low
    end
end

function init(args)
    local work, run, people, key = args[1], args[2], args[3], args[4]
    local users, openids, tokens, credits, made, held = {}, {}, {}, {}, 0, {}
    local host = wrk.headers["Host"]
    local authorized = { Host = host, Authorization = "Bearer " .. key }
    local posted = { Host = host, Authorization = "Bearer " .. key, ["Content-Type"] = "application/json" }
    local credit = work == "lookups" and "/bench/lookups" or "/credit"
    for line in io.lines(people) do
        local user, openid, token = line:match("(%S+) (%S+) (%S+)")
        users[#users + 1], openids[#openids + 1], tokens[#tokens + 1] = user, openid, token
        credits[#credits + 1] = wrk.format("GET", credit .. "?token=" .. token)
    end
    -- Each thread starts elsewhere, so that two do not walk through the same people side by side.
    local place = number * math.floor(#users / 2)
    local hello = wrk.format("GET", "/bench/hello")
    local popular = work == "mixed" and zipf(#users)
    math.randomseed(number + 1)

    local function write(kind, path, body)
        made, sent[kind] = made + 1, sent[kind] + 1
        posted["Idempotency-Key"] = run .. "-" .. number .. "-" .. made
        return wrk.format("POST", path, posted, body or '{"amount":1,"reason":"benchmark"}')
    end
    local function login(user)
        made = made + 1
        return wrk.format("POST", "/login", posted, '{"code":"dev-' .. user .. "-" .. run .. "x" .. number .. "x" .. made .. '"}')
    end
    local function account(what) return "/v1/accounts/" .. openids[place] .. "/" .. what end

    local works = {
        ["hello-get"] = function() return hello end,
        ["hello-post"] = function()
            made = made + 1
            posted["Idempotency-Key"] = run .. "-" .. number .. "-" .. made
            return wrk.format("POST", "/bench/hello", posted, '{"amount":1,"reason":"benchmark"}')
        end,
        credit = function() return credits[place] end,
        lookups = function() return credits[place] end,
        rows = function() return write("rows", "/bench/rows") end,
        grant = function() return write("grant", account("grants")) end,
        spend = function() return write("spend", account("spends")) end,
        login = function() return login(users[place]) end,
        ["login-cold"] = function()
            sent.register = sent.register + 1
            return login("new" .. run .. "x" .. number .. "x" .. sent.register)
        end,
        -- A page of 50 from anywhere in one long statement.
        page = function()
            local before = math.random(51, tonumber(tokens[place]))
            return wrk.format("GET", account("events?limit=50&before=") .. before, authorized)
        end,
        -- The newest events of anybody.
        statement = function() return wrk.format("GET", account("events?limit=20"), authorized) end,
        mixed = function()
            place = popular()
            local dice = math.random(100)
            if dice <= 90 then return credits[place] end
            return dice <= 98 and write("spend", account("spends")) or login(users[place])
        end,
        -- Each hold that was answered is captured next.
        hold = function()
            local path = table.remove(held)
            if path then return write("capture", path, '{"reason":"benchmark"}') end
            local body = '{"amount":1,"reason":"benchmark","reference":"' .. openids[place] .. '"}'
            return write("hold", account("holds"), body)
        end,
        wechat = function()
            made = made + 1
            local code = "dev-" .. users[place] .. "-" .. run .. "x" .. number .. "x" .. made
            return wrk.format("GET", "/sns/jscode2session?" .. key .. "&grant_type=authorization_code&js_code=" .. code)
        end,
    }
    local make = works[work]

    function request()
        place = place % #users + 1
        return make()
    end

    -- A refused login is a 200 as well.
    if work == "login" or work == "login-cold" then
        function response(status, headers, body)
            if not body:find('"token"', 1, true) then no_token = no_token + 1 end
        end
    elseif work == "hold" then
        function response(status, headers, body)
            if body:find('"CreditHeld"', 1, true) then
                local openid, version = body:match('"reference":"([^"]+)"'), body:match('"version":(%d+)')
                held[#held + 1] = "/v1/accounts/" .. openid .. "/holds/" .. version .. "/capture"
            end
        end
    end
end

function done(summary, latency)
    local errors, counted, refused = summary.errors, {}, 0
    for _, thread in ipairs(all) do refused = refused + thread:get("no_token") end
    for kind in pairs(sent) do
        local count = 0
        for _, thread in ipairs(all) do count = count + thread:get("sent")[kind] end
        if count > 0 then counted[#counted + 1] = string.format('"%s":%d', kind, count) end
    end
    io.write(string.format(
        '\nresult {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"no_token":%d,"socket_errors":%d,"sent":{%s}}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status, refused,
        errors.connect + errors.read + errors.write + errors.timeout, table.concat(counted, ",")))
end
