/* Functions with variables of every kind, which run natively for the tests and change nothing but their
   stack. */

typedef unsigned long size_t;
enum v_color { V_RED, V_GREEN = 5, V_BLUE };
struct v_pair { int first; long second; };
struct v_bits { unsigned low : 3, mid : 7; signed sign : 5; unsigned long wide : 40; };
struct v_big { int numbers[6]; const char *name; struct v_pair pair; };
union v_either { int number; unsigned char bytes[4]; };
struct v_list { const struct v_list *next; int value; };

const char v_text[] = "a text that is quoted";
static const struct v_list v_last = { 0, 3 }, v_second = { &v_last, 2 }, v_first = { &v_second, 1 };

#define KEEP(x) __asm__ volatile("" : "+r"(x))
#define CLOBBER() __asm__ volatile("" ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory")

static inline __attribute__((always_inline)) int v_clamp(int value, int limit)
{
	int result = value > limit ? limit : value;
	KEEP(result);
	return result;
}

static inline __attribute__((always_inline)) long v_mix(struct v_pair pair, int scale)
{
	long mixed = pair.first * scale;
	{
		long pair_sum = mixed + pair.second;
		KEEP(pair_sum);
		mixed ^= pair_sum;
	}
	return mixed + v_clamp(scale, 3);
}

__attribute__((noinline)) int v_leaf(int a, long b, const char *text, enum v_color color)
{
	int index = 0;
	while (text[index] && index < (a & 7))
		index++;
	int letter = text[index];
	KEEP(letter);
	return letter + index + (int)b + color;
}

__attribute__((noinline)) long v_pass(struct v_pair pair, struct v_big *big, int unused, int last)
{
	static const int factor = 3;
	long total = v_mix(pair, factor);
	total += v_leaf(last, pair.second, big->name, V_GREEN);
	CLOBBER();
	total += big->numbers[last & 3];
	return total;
}

__attribute__((noinline)) int v_walk(const struct v_list *list, int depth)
{
	int sum = 0;
	for (const struct v_list *at = list; at; at = at->next) {
		int value = at->value + depth;
		sum += v_leaf(value, depth, v_text, V_BLUE);
	}
	if (depth > 0) {
		int sum_below = v_walk(list->next ? list->next : list, depth - 1);
		sum += sum_below;
	}
	return sum;
}

__attribute__((noinline)) long v_locals(int seed)
{
	struct v_bits bits = { seed & 7, 100, -3, 0x123456789aul };
	union v_either either = { seed };
	struct v_big big = { { seed, 1, 2, 3, 4, 5 }, v_text, { seed, -1 } };
	unsigned char small = (unsigned char)seed;
	short negative = (short)-seed;
	unsigned long long wide = 0x8000000000000000ull + (unsigned)seed;
	long total = 0;
	for (int round = 0; round < 2; round++) {
		struct v_pair pair = { seed + round, negative };
		long seed = small + round;
		__asm__ volatile("" : "+m"(bits), "+m"(either));
		total += v_pass(pair, &big, round, (int)seed);
		total += bits.mid + either.bytes[0];
	}
	return total + (long)wide;
}

__attribute__((noinline)) long v_run(int rounds)
{
	long total = 0;
	for (int round = 1; round <= rounds; round++) {
		total += v_locals(round * 37);
		total += v_walk(&v_first, round & 1);
	}
	return total;
}

/* Where the native program starts, on the stack of the last thread. */
__asm__(
"	.globl native_start\n"
"	.type native_start, @function\n"
"native_start:\n"
"	mov $stacks + 49152, %rsp\n"
"	xor %ebp, %ebp\n"
"	mov $40, %edi\n"
"	call v_run\n"
"	int3\n"
"	.size native_start, . - native_start\n");
