"""What may be called: one line per form, `text -> kind of the result`.

`<kind>` is an argument of that kind. `<N>` is any number, `<I>` any whole number, `<T>` any kind (the same at each place),
`<C>` any kind that can be compared, `<n>` a small whole number, `<a|b>` one of those texts. A result may be `T` or `C` (the arguments'),
or `N` (the wider one of the arguments'). The forms are those that recorded answers of Databricks prove
(see each function's `proof` in `crates/functions`).
"""

SCALARS = """
<N> + <N> -> N
<N> - <N> -> N
<N> * <N> -> N
<N> / <N> -> f64
<dec> / <dec> -> dec
<N> % <N> -> N
<N> DIV <N> -> i64
- <N> -> N
try_add(<N>, <N>) -> N
try_subtract(<N>, <N>) -> N
try_multiply(<N>, <N>) -> N
try_divide(<N>, <N>) -> f64
try_mod(<N>, <N>) -> N
mod(<N>, <N>) -> N
pmod(<N>, <N>) -> N
<I> & <I> -> N
<I> | <I> -> N
<I> ^ <I> -> N
~ <I> -> N
shiftleft(<I>, <n>) -> N
shiftright(<I>, <n>) -> N
shiftrightunsigned(<I>, <n>) -> N
bit_count(<I>) -> i32
bit_get(<I>, <n>) -> i8
<C> = <C> -> bool
<C> <=> <C> -> bool
<C> <> <C> -> bool
<C> < <C> -> bool
<C> <= <C> -> bool
<C> > <C> -> bool
<N> < <N> -> bool
<N> = <N> -> bool
<N> >= <str> -> bool
<date> = <str> -> bool
<ts> > <date> -> bool
<C> BETWEEN <C> AND <C> -> bool
<C> IN (<C>, <C>) -> bool
<C> NOT IN (<C>, <C>) -> bool
<T> IS NULL -> bool
<T> IS NOT NULL -> bool
<bool> AND <bool> -> bool
<bool> OR <bool> -> bool
NOT <bool> -> bool
<bool> IS TRUE -> bool
<bool> IS NOT FALSE -> bool
<C> IS DISTINCT FROM <C> -> bool
equal_null(<C>, <C>) -> bool
CASE WHEN <bool> THEN <T> ELSE <T> END -> T
CASE WHEN <bool> THEN <T> END -> T
CASE <C> WHEN <C> THEN <T> WHEN <C> THEN <T> ELSE <T> END -> T
CASE WHEN <bool> THEN <N> ELSE <N> END -> N
if(<bool>, <T>, <T>) -> T
coalesce(<T>, <T>) -> T
coalesce(<N>, <N>, <N>) -> N
nvl(<T>, <T>) -> T
nvl2(<C>, <T>, <T>) -> T
nullif(<C>, <C>) -> C
nullifzero(<N>) -> N
zeroifnull(<N>) -> N
greatest(<C>, <C>) -> C
least(<C>, <C>) -> C
greatest(<N>, <N>) -> N
least(<N>, <N>, <N>) -> N
isnan(<f64>) -> bool
nanvl(<f64>, <f64>) -> f64
abs(<N>) -> N
sign(<N>) -> f64
round(<N>) -> N
round(<N>, <-2|-1|0|1|2|5>) -> N
bround(<N>, <-1|0|1|2>) -> N
ceil(<N>) -> i64
ceil(<N>, <-1|0|1|2>) -> dec
floor(<N>) -> i64
floor(<N>, <-1|0|1|2>) -> dec
sqrt(<N>) -> f64
cbrt(<N>) -> f64
exp(<N>) -> f64
expm1(<f64>) -> f64
ln(<N>) -> f64
log10(<N>) -> f64
log2(<N>) -> f64
log1p(<f64>) -> f64
log(<f64>, <f64>) -> f64
sin(<f64>) -> f64
cos(<f64>) -> f64
tan(<f64>) -> f64
cot(<f64>) -> f64
asin(<f64>) -> f64
acos(<f64>) -> f64
atan(<f64>) -> f64
atan2(<f64>, <f64>) -> f64
sinh(<f64>) -> f64
cosh(<f64>) -> f64
tanh(<f64>) -> f64
asinh(<f64>) -> f64
acosh(<f64>) -> f64
atanh(<f64>) -> f64
degrees(<f64>) -> f64
radians(<f64>) -> f64
rint(<f64>) -> f64
power(<N>, <N>) -> f64
hypot(<f64>, <f64>) -> f64
hex(<i64>) -> str
hex(<str>) -> str
hex(<bin>) -> str
unhex(<str>) -> bin
bin(<i64>) -> str
conv(<str>, <2|10|16|36>, <-16|2|10|36>) -> str
factorial(<n>) -> i64
width_bucket(<f64>, <f64>, <f64>, <n>) -> i64
length(<str>) -> i32
length(<bin>) -> i32
octet_length(<str>) -> i32
bit_length(<str>) -> i32
substring(<str>, <n>) -> str
substring(<str>, <n>, <n>) -> str
substring(<bin>, <n>, <n>) -> bin
substr(<str> FROM <n> FOR <n>) -> str
left(<str>, <n>) -> str
right(<str>, <n>) -> str
startswith(<str>, <str>) -> bool
endswith(<str>, <str>) -> bool
contains(<str>, <str>) -> bool
instr(<str>, <str>) -> i32
locate(<str>, <str>) -> i32
locate(<str>, <str>, <n>) -> i32
position(<str> IN <str>) -> i32
split_part(<str>, <','|'.'|'b'>, <1|2|-1>) -> str
split_part(<str>, <str>, <n>) -> str
substring_index(<str>, <','|'.'|'b'>, <1|2|-1>) -> str
find_in_set(<str>, <str>) -> i32
ascii(<str>) -> i32
chr(<n>) -> str
chr(<i64>) -> str
levenshtein(<str>, <str>) -> i32
soundex(<str>) -> str
<str> LIKE <'%a%'|'a_c'|'%\\\\\\\\%%'|'%ß%'|''|'_'|'A%'> -> bool
<str> NOT LIKE <'%a%'|'a_c'|'_'> -> bool
<str> ILIKE <'%a%'|'a_c'|'%i%'|'%SS%'> -> bool
<str> LIKE <str> -> bool
<str> LIKE ANY ('%a%', 'b%') -> bool
upper(<str>) -> str
lower(<str>) -> str
initcap(<str>) -> str
concat(<str>, <str>) -> str
concat(<str>, <N>) -> str
concat(<bin>, <bin>) -> bin
concat(<ai>, <ai>) -> ai
<str> || <T> -> str
concat_ws(<','|''|'--'>, <str>, <str>) -> str
concat_ws(<str>, <str>, <as>) -> str
trim(<str>) -> str
ltrim(<str>) -> str
rtrim(<str>) -> str
btrim(<str>, <'a'|'ab'|' '>) -> str
trim(BOTH <'a'|' A'|'ß'> FROM <str>) -> str
trim(LEADING <str> FROM <str>) -> str
repeat(<str>, <n>) -> str
space(<n>) -> str
reverse(<str>) -> str
reverse(<ai>) -> ai
lpad(<str>, <n>, <'x'|'ab'|''>) -> str
rpad(<str>, <n>, <'x'|'ab'|''>) -> str
lpad(<str>, <n>) -> str
replace(<str>, <'a'|'b'|''>, <'x'|''>) -> str
replace(<str>, <str>, <str>) -> str
translate(<str>, <'abc'|'ß'|'aa'>, <'xy'|''|'123'>) -> str
translate(<str>, <str>, <str>) -> str
overlay(<str> PLACING <str> FROM <n>) -> str
overlay(<str> PLACING <str> FROM <n> FOR <n>) -> str
format_number(<f64>, <0|2>) -> str
format_number(<dec>, <0|2>) -> str
format_string(<'%s-%s'|'%5s|%s'>, <str>, <i32>) -> str
elt(<n>, <str>, <str>) -> str
base64(<bin>) -> str
base64(<str>) -> str
unbase64(<str>) -> bin
encode(<str>, <'UTF-8'|'UTF-16BE'|'US-ASCII'>) -> bin
decode(<bin>, <'UTF-8'|'ISO-8859-1'>) -> str
decode(<C>, <C>, <T>, <T>) -> T
to_char(<i32>, <'999'|'000'|'S99'>) -> str
mask(<str>) -> str
md5(<str>) -> str
md5(<bin>) -> str
sha1(<str>) -> str
sha2(<str>, <0|256|512>) -> str
crc32(<str>) -> i64
url_encode(<str>) -> str
try_url_decode(<str>) -> str
rlike(<str>, <'a'|'^[a-c]+$'|'\\\\\\\\d'|'(?i)A'|'.'|'ß'>) -> bool
regexp_extract(<str>, <'([a-z])([0-9])?'|'(\\\\\\\\w+)'>, <0|1>) -> str
regexp_extract_all(<str>, <'([a-z])'|'\\\\\\\\d'>, <0>) -> as
regexp_count(<str>, <'[a-z]'|'.'>) -> i32
regexp_substr(<str>, <'[a-z]+'|'\\\\\\\\d+'>) -> str
regexp_instr(<str>, <'[b-z]'>) -> i32
regexp_replace(<str>, <'[a-c]'|'(a)(b)'|'\\\\\\\\s+'>, <'x'|'$1'|''>) -> str
split(<str>, <','|'[ab]'|''|'\\\\\\\\s'>) -> as
split(<str>, <','|'b'>, <-1|0|1|2>) -> as
year(<date>) -> i32
quarter(<date>) -> i32
month(<ts>) -> i32
day(<date>) -> i32
dayofyear(<date>) -> i32
dayofweek(<date>) -> i32
weekday(<date>) -> i32
weekofyear(<date>) -> i32
dayname(<date>) -> str
monthname(<date>) -> str
hour(<ts>) -> i32
minute(<ntz>) -> i32
second(<ts>) -> i32
extract(<YEAR|QUARTER|MONTH|WEEK|DAY|DOW|DOW_ISO|DOY|YEAROFWEEK> FROM <date>) -> i32
extract(<HOUR|MINUTE> FROM <ts>) -> i32
extract(SECOND FROM <ts>) -> dec
unix_date(<date>) -> i32
date_from_unix_date(<i32>) -> date
date_add(<date>, <n>) -> date
date_add(<date>, <i32>) -> date
date_sub(<date>, <n>) -> date
<date> + <n> -> date
<date> - <date> -> iv
<ts> - <ts> -> iv
<date> + INTERVAL <'1' MONTH|'-13' MONTH|'2' YEAR|'3' DAY> -> date
<ts> + INTERVAL <'1' MONTH|'36' HOUR|'-1' DAY|'0.5' SECOND> -> ts
<ntz> - INTERVAL <'1' MONTH|'36' HOUR|'1' YEAR> -> ntz
datediff(<date>, <date>) -> i32
dateadd(<DAY|MONTH|YEAR|HOUR|WEEK>, <n>, <ts>) -> ts
datediff(<DAY|MONTH|YEAR|HOUR|WEEK|QUARTER|SECOND>, <ts>, <ts>) -> i64
add_months(<date>, <n>) -> date
months_between(<ts>, <ts>) -> f64
months_between(<date>, <date>, <true|false>) -> f64
last_day(<date>) -> date
next_day(<date>, <'MON'|'Fr'|'xx'>) -> date
trunc(<date>, <'YEAR'|'MM'|'WEEK'|'QUARTER'|'zz'>) -> date
date_trunc(<'YEAR'|'MONTH'|'WEEK'|'DAY'|'HOUR'|'SECOND'|'MILLISECOND'|'QUARTER'>, <ts>) -> ts
date_trunc(<'MONTH'|'WEEK'>, <date>) -> ts
date_format(<ts>, <'yyyy-MM-dd'|'HH:mm:ss.SSS'|'EEE d MMM y'|'D'|'hh a'|'yy-M-d H:m:s'>) -> str
date_format(<date>, <'yyyy-MM-dd'|'MMMM'|'E'>) -> str
to_date(<str>) -> date
to_date(<str>, <'yyyy-MM-dd'|'yyyy-MM'|'dd/MM/yyyy'>) -> date
try_to_date(<str>, 'yyyy-MM-dd') -> date
to_timestamp(<str>) -> ts
try_to_timestamp(<str>) -> ts
try_to_timestamp(<str>, <'yyyy-MM-dd'|'yyyy-MM-dd HH:mm:ss'>) -> ts
unix_timestamp(<ts>) -> i64
unix_timestamp(<date>) -> i64
unix_seconds(<ts>) -> i64
unix_millis(<ts>) -> i64
unix_micros(<ts>) -> i64
timestamp_seconds(<i64>) -> ts
timestamp_seconds(<f64>) -> ts
timestamp_millis(<i64>) -> ts
timestamp_micros(<i64>) -> ts
from_unixtime(<i64>) -> str
from_unixtime(<i64>, <'yyyy-MM-dd'|'HH:mm'>) -> str
make_date(<i32>, <n>, <n>) -> date
make_timestamp(<i32>, <n>, <n>, <n>, <n>, <n>) -> ts
from_utc_timestamp(<ts>, <'America/New_York'|'Asia/Kolkata'>) -> ts
to_utc_timestamp(<ts>, <'America/New_York'|'+05:30'>) -> ts
convert_timezone(<'UTC'>, <'Europe/Berlin'>, <ntz>) -> ntz
array(<i32>, <i32>) -> ai
array(<str>, <str>) -> as
size(<ai>) -> i32
size(<m>) -> i32
array_size(<as>) -> i32
array_contains(<ai>, <i32>) -> bool
array_contains(<as>, <str>) -> bool
array_position(<ai>, <i32>) -> i64
array_max(<ai>) -> i32
array_min(<as>) -> str
array_distinct(<ai>) -> ai
array_compact(<as>) -> as
sort_array(<ai>) -> ai
sort_array(<as>, <true|false>) -> as
array_sort(<ai>) -> ai
array_remove(<ai>, <i32>) -> ai
array_append(<ai>, <i32>) -> ai
array_prepend(<as>, <str>) -> as
array_insert(<ai>, <1|2|-1>, <i32>) -> ai
slice(<ai>, <1|2|-1|-2>, <n>) -> ai
flatten(array(<ai>, <ai>)) -> ai
array_repeat(<i32>, <n>) -> ai
array_join(<as>, <','|''>) -> str
array_join(<as>, <','>, <'null'|''>) -> str
array_union(<ai>, <ai>) -> ai
array_intersect(<as>, <as>) -> as
array_except(<ai>, <ai>) -> ai
arrays_overlap(<ai>, <ai>) -> bool
sequence(<n>, <n>) -> ai
sequence(<0|5>, <n>, <1|2|-1>) -> ai
<ai>[<0|1>] -> i32
<as>[<n>] -> str
element_at(<ai>, <1|-1|2>) -> i32
try_element_at(<ai>, <n>) -> i32
try_element_at(<m>, <'a'|'b'>) -> i32
get(<as>, <n>) -> str
<m>[<'a'|'zz'>] -> i32
<st>.a -> i32
<st>.b -> str
struct(<i32> AS a, <str> AS b) -> st
named_struct('a', <i32>, 'b', <str>) -> st
map(<'a'|'b'>, <i32>) -> m
map_keys(<m>) -> as
map_values(<m>) -> ai
map_contains_key(<m>, <'a'|'b'>) -> bool
map_concat(<m>, <m>) -> m
str_to_map(<'a:1,b:2'|''>) -> m
to_json(<st>) -> str
get_json_object(<'{"a": {"b": 1}, "c": [1, 2]}'|'{"a": "x"}'|'no'>, <'$.a'|'$.a.b'|'$.c[1]'>) -> str
json_array_length(<'[1, 2]'|'{}'|'x'>) -> i32
typeof(<T>) -> str
"""

AGGREGATES = """
count(*) -> i64
count(<T>) -> i64
count(DISTINCT <C>) -> i64
count(<C>, <C>) -> i64
count_if(<bool>) -> i64
sum(<N>) -> N
sum(DISTINCT <I>) -> N
try_sum(<N>) -> N
avg(<N>) -> f64
avg(<dec>) -> dec
try_avg(<N>) -> f64
min(<C>) -> C
max(<C>) -> C
bool_and(<bool>) -> bool
bool_or(<bool>) -> bool
bit_and(<I>) -> N
bit_or(<I>) -> N
bit_xor(<I>) -> N
var_pop(<N>) -> f64
var_samp(<N>) -> f64
stddev_pop(<N>) -> f64
stddev(<N>) -> f64
skewness(<N>) -> f64
kurtosis(<N>) -> f64
covar_pop(<N>, <N>) -> f64
covar_samp(<N>, <N>) -> f64
corr(<N>, <N>) -> f64
max_by(<T>, id) -> T
min_by(<T>, id) -> T
sort_array(collect_list(<i32>)) -> ai
sort_array(collect_set(<str>)) -> as
median(<N>) -> f64
percentile(<N>, <0.5|0.25|0|1>) -> f64
percentile_cont(<0.5|0.9>) WITHIN GROUP (ORDER BY <N>) -> f64
percentile_disc(<0.5|0.1>) WITHIN GROUP (ORDER BY <N>) -> f64
sum(<N>) FILTER (WHERE <bool>) -> N
count(*) FILTER (WHERE <bool>) -> i64
listagg(<str>, ',') WITHIN GROUP (ORDER BY id) -> str
"""

WINDOWS = """
row_number() -> i32
rank() -> i32
dense_rank() -> i32
percent_rank() -> f64
cume_dist() -> f64
ntile(<1|2|3>) -> i32
lag(<T>) -> T
lead(<T>, <1|2|-1>) -> T
lag(<T>, 1, <T>) -> T
nth_value(<T>, <1|2>) -> T
first_value(<T>) -> T
last_value(<T>) -> T
count(<T>) -> i64
sum(<N>) -> N
avg(<N>) -> f64
min(<C>) -> C
max(<C>) -> C
"""

TARGETS = {
    "i8": "TINYINT", "i16": "SMALLINT", "i32": "INT", "i64": "BIGINT", "f32": "FLOAT", "f64": "DOUBLE", "str": "STRING",
    "bin": "BINARY", "bool": "BOOLEAN", "date": "DATE", "ts": "TIMESTAMP", "ntz": "TIMESTAMP_NTZ",
}
DECIMALS = ["DECIMAL(10,0)", "DECIMAL(9,2)", "DECIMAL(18,6)", "DECIMAL(38,10)", "DECIMAL(38,0)", "DECIMAL(5,5)", "DECIMAL(38,37)"]


def casts():
    """A cast and a try_cast from every kind to every type."""
    scalars = ["i8", "i16", "i32", "i64", "f32", "f64", "dec", "str", "bin", "bool", "date", "ts", "ntz"]
    for name in ("CAST", "try_cast"):
        for source in scalars:
            for kind, target in TARGETS.items():
                yield f"{name}(<{source}> AS {target}) -> {kind}"
            for target in DECIMALS:
                yield f"{name}(<{source}> AS {target}) -> dec"
        for source in ("ai", "as", "st", "m"):
            yield f"{name}(<{source}> AS STRING) -> str"
        yield f"{name}(<as> AS ARRAY<INT>) -> ai"
        yield f"{name}(<ai> AS ARRAY<STRING>) -> as"
