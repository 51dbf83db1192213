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
#if defined(__x86_64__)
#define CLOBBER() __asm__ volatile("" ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory")
#elif defined(__aarch64__)
#define CLOBBER() __asm__ volatile("" ::: "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "memory")
#elif defined(__riscv)
#define CLOBBER() __asm__ volatile("" ::: "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "t0", "t1", "memory")
#else
#define CLOBBER() __asm__ volatile("" ::: "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "memory")
#endif

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

/* Its argument is the address of what an optimizer keeps in a register. */
static inline __attribute__((always_inline)) int v_through(const long *kept)
{
	long twice = *kept;
	KEEP(twice);
	__asm__ volatile("nop; nop; nop; nop");
	return (int)(twice + *kept);
}

__attribute__((noinline)) int v_leaf(int a, long b, const char *text, enum v_color color)
{
	int index = 0;
	while (text[index] && index < (a & 7))
		index++;
	int letter = text[index];
	long behind = b;
	KEEP(letter);
	letter += v_through(&behind);
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
"	.type native_start, %function\n"
"native_start:\n"
#if defined(__x86_64__)
"	mov $stacks + 49152, %rsp\n"
"	xor %ebp, %ebp\n"
"	mov $40, %edi\n"
"	call v_run\n"
"	int3\n"
#elif defined(__aarch64__)
"	adrp x9, stacks\n"
"	add x9, x9, :lo12:stacks\n"
"	add x9, x9, #12, lsl #12\n"
"	mov sp, x9\n"
"	mov x29, #0\n"
"	mov x30, #0\n"
"	mov w0, #40\n"
"	bl v_run\n"
"	brk #1\n"
#elif defined(__riscv)
"	la sp, stacks\n"
"	li t0, 49152\n"
"	add sp, sp, t0\n"
"	li s0, 0\n"
"	li ra, 0\n"
"	li a0, 40\n"
"	call v_run\n"
"	ebreak\n"
#else
"	bcl 20, 31, 1f\n"
"1:	mflr 12\n"
"	addis 2, 12, .TOC.-1b@ha\n"
"	addi 2, 2, .TOC.-1b@l\n"
"	addis 3, 2, stacks@toc@ha\n"
"	addi 3, 3, stacks@toc@l\n"
"	addis 3, 3, 1\n"
"	addi 1, 3, -16384 - 64\n"
"	li 0, 0\n"
"	std 0, 0(1)\n"
"	mtlr 0\n"
"	li 3, 40\n"
"	bl v_run\n"
"	nop\n"
"	trap\n"
#endif
"	.size native_start, . - native_start\n");
